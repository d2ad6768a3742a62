"""A page of transcripts: who said what in which turn, what it earned, and in colour how unsure each token was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from maxent_rl.pictures.document import document
from maxent_rl.playing.transcripts import Token, Transcript, Turn
from maxent_rl.storage.files import storage_errors, write_whole

# Ink on the strongest of either colour has a contrast of more than 4.5.
_STYLE = """
:root { --heat: 230 159 0; }
@media (prefers-color-scheme: dark) { :root { --heat: 0 114 178; } }
.legend { display: flex; flex-wrap: wrap; align-items: center; gap: .35rem .6rem; margin: 1rem 0; }
.episodes { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1rem;
  align-items: start; }
article { background: var(--card); border-radius: .6rem; padding: .75rem .9rem; min-width: 0; }
article h3 { margin: 0 0 .4rem; display: flex; flex-wrap: wrap; justify-content: space-between; gap: .2rem 1rem; }
article p { margin: .5rem 0 0; }
ol { list-style: none; margin: 0; padding: 0; }
ol li { display: grid; grid-template-columns: 6.5rem minmax(0, 1fr) auto; gap: .1rem .75rem; align-items: baseline;
  padding: .3rem 0; border-top: 1px solid var(--line); margin: 0; }
.who { color: var(--soft); font-size: .875rem; }
.model { font-weight: 600; color: var(--ink); }
.text { font: 1rem/1.9 ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.token { background: rgb(var(--heat) / calc(var(--unsure) * .85)); border-radius: .25rem; padding: .15rem .3rem;
  margin-right: .15rem; white-space: pre; border: 1px solid var(--line); }
.mark { font: .75rem system-ui, sans-serif; color: var(--ink); }
.numbers { color: var(--soft); font-size: .8125rem; text-align: right; font-variant-numeric: tabular-nums; }
@media (max-width: 30rem) { ol li { grid-template-columns: minmax(0, 1fr) auto; }
  ol .text { grid-column: 1 / -1; grid-row: 2; } }
""".strip()
_SHADES = 5


class Group(NamedTuple):
    """Transcripts of one policy.

    Attributes:
      title: what tells it from the others.
      transcripts: at least one.
    """

    title: str
    transcripts: Sequence[Transcript]


def transcripts_page(title: str, details: str, groups: Sequence[Group]) -> str:
    """A whole HTML document of transcripts.

    Args:
      title: the heading.
      details: a line below it.
      groups: at least one.
    """
    largest = math.log(max(each.vocabulary_size for group in groups for each in group.transcripts))
    body = [f"<h1>{escape(title)}</h1>", f'<p class="soft">{escape(details)}</p>', _legend(largest)]
    for group in groups:
        returns = [each.total for each in group.transcripts]
        mean = sum(returns) / len(returns)
        episodes = "1 episode" if len(returns) == 1 else f"{len(returns)} episodes"
        body += [
            f"<h2>{escape(group.title)}</h2>",
            f'<p class="soft">{episodes}, mean return {mean:.3g}</p>',
            '<div class="episodes">',
            *(_episode(number, each) for number, each in enumerate(group.transcripts)),
            "</div>",
        ]
    return document(title, body, _STYLE)


def write_transcripts(path: Path, title: str, details: str, groups: Sequence[Group]) -> Path:
    """Writes the page; the file appears whole or not at all.

    Raises:
      StorageError: the file cannot be written.
    """
    with storage_errors(f"write {path}"), write_whole(path) as partial:
        partial.write_text(transcripts_page(title, details, groups), encoding="utf-8")
    return path


def _legend(largest: float) -> str:
    shades = (step / (_SHADES - 1) for step in range(_SHADES))
    swatches = "".join(
        f'<span class="token text" style="--unsure:{shade:.3f}">{shade * largest:.2f}</span>' for shade in shades
    )
    words = "nats: the entropy of the distribution that each token of the model is drawn from, at most log V"
    return f'<div class="legend"><span>{swatches}</span><span class="soft">{words}</span></div>'


def _episode(number: int, transcript: Transcript) -> str:
    rows = [_row("prompt", "", escape(transcript.prompt), "")]
    for index, turn in enumerate(transcript.turns):
        rows.append(_said(index, turn, math.log(transcript.vocabulary_size)))
        if turn.heard:
            rows.append(_row("environment", "", escape(turn.heard), ""))
    return "\n".join(
        [
            "<article>",
            f"<h3><span>Episode {number}</span><span>return {_number(transcript.total)}</span></h3>",
            f"<ol>{''.join(rows)}</ol>",
            f'<p class="soft">{escape(transcript.ending)}</p>',
            "</article>",
        ]
    )


def _said(index: int, turn: Turn, largest: float) -> str:
    tokens = "".join(_token(token, largest) for token in turn.said)
    numbers = f"reward {_number(turn.reward)}, {turn.entropy:.2f} nats a token"
    return _row(f"turn {index}", " model", tokens, numbers)


def _row(who: str, kind: str, text: str, numbers: str) -> str:
    return (
        f'<li><span class="who{kind}">{who}</span><span class="text">{text}</span>'
        f'<span class="numbers">{numbers}</span></li>'
    )


def _token(token: Token, largest: float) -> str:
    unsure = min(max(token.entropy / largest, 0.0), 1.0)
    told = f"{token.entropy:.3f} nats, probability {math.exp(token.log_prob):.3f}"
    shown, kind = (escape(token.text), "") if token.kind == "character" else (token.kind, " mark")
    return f'<span class="token{kind}" style="--unsure:{unsure:.3f}" title="{told}">{shown}</span>'


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3g}"
