"""HTML documents that need nothing but themselves, on a phone or offline, in light and in dark.

A content policy in each forbids scripts and anything from elsewhere. Whoever makes the body escapes all text in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #111827; --soft: #4b5563; --paper: #ffffff; --card: #f3f4f6; --line: #d1d5db;
  --note: #fef3c7; --note-ink: #78350f; }
@media (prefers-color-scheme: dark) { :root { --ink: #f3f4f6; --soft: #c3c9d2; --paper: #111418; --card: #1d232b;
  --line: #3b434e; --note: #3a2f10; --note-ink: #fde9b5; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem; }
p, ul { margin: .5rem 0; max-width: 48rem; }
ul { padding-left: 1.2rem; }
li { margin: .25rem 0; }
.soft { color: var(--soft); font-size: .875rem; }
.note { background: var(--note); color: var(--note-ink); border-radius: .5rem; padding: .6rem .9rem; margin: 1rem 0;
  max-width: 52rem; }
@media (max-width: 30rem) { body { padding: .75rem; } }
""".strip()
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, body: Iterable[str], style: str = "") -> str:
    """A whole HTML document.

    Args:
      title: as text.
      body: HTML; empty parts are left out.
      style: CSS of its own, after what all documents have.
    """
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{_STYLE}\n{style}\n</style>",
            "</head>",
            "<body>",
            *(part for part in body if part),
            "</body>",
            "</html>",
            "",
        ]
    )
