"""Writes docs/results.md, a paragraph of every study and of the speeds: `python -m benchmarks.index`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.lab.measure import ROOT, SPEED, command_line
from benchmarks.lab.publish import summary

STUDIES = ROOT / "benchmarks" / "studies"
PAGE = ROOT / "docs" / "results.md"
_HEAD = """# Results

What was measured, each in a paragraph; behind the titles are the tables, the figures, the commands that made them and what is
not equal or not known. Written by `python -m benchmarks.index` from the READMEs of [benchmarks](../benchmarks/README.md)."""


def page() -> str:
    """The page: speeds first, then what plain training reaches, then the other studies by title."""
    readmes = [folder / "README.md" for folder in STUDIES.iterdir() if (folder / "__main__.py").exists()]
    first = [SPEED / "README.md", STUDIES / "learning" / "README.md"]
    others = sorted((readme for readme in readmes if readme not in first), key=summary)
    return "\n\n".join([_HEAD, *map(_section, [*first, *others])]) + "\n"


def _section(readme: Path) -> str:
    title, text = summary(readme)
    return f"## [{title}](../{readme.relative_to(ROOT).as_posix()})\n\n{text}"


def main() -> int:
    """Writes the page; returns the exit status."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Written: {PAGE}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    command_line(main)
