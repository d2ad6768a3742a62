"""The place of tables: a README's section `## Results`, which is written anew, between prose that is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from benchmarks.lab.measure import BenchmarkError

HEADING = "## Results"
Result = TypeVar("Result")


def publish(readme: Path, tables: str) -> None:
    """Puts tables into the section `## Results` of a README; what stands before it, and from the next section on, stays.

    Raises:
      BenchmarkError: there is no such section.
    """
    text = readme.read_text(encoding="utf-8")
    readme.write_text(with_results(text, tables, readme), encoding="utf-8")


def with_results(text: str, tables: str, readme: Path) -> str:
    """The text of a README with its section of results replaced; errors as of `publish`."""
    lines = text.splitlines()
    if HEADING not in lines:
        raise BenchmarkError(f"{readme} has no section {HEADING!r} to write the tables into.")
    begin = lines.index(HEADING)
    end = next((index for index in range(begin + 1, len(lines)) if lines[index].startswith("## ")), len(lines))
    parts = ["\n".join(lines[: begin + 1]), tables.strip(), "\n".join(lines[end:])]
    return "\n\n".join(part for part in parts if part) + "\n"


def figure_of_each_part(
    results: Mapping[str, Result], folder: Path, shows: Mapping[str, str], draw: Callable[[str, Result, Path], None]
) -> dict[str, Path]:
    """Draws PART.png for each part that has results: the files, by what each shows."""
    paths = {shows[part]: folder / f"{part}.png" for part in results}
    for (part, result), path in zip(results.items(), paths.values(), strict=True):
        draw(part, result, path)
    return paths


def summary(readme: Path) -> tuple[str, str]:
    """Title and first paragraph of a README: what it is about and what was found, in a few sentences.

    Raises:
      BenchmarkError: it does not begin with them.
    """
    blocks = readme.read_text(encoding="utf-8").split("\n\n")
    if len(blocks) < 2 or not blocks[0].startswith("# ") or blocks[1].startswith(("#", "|", "```", "!")):
        raise BenchmarkError(f"{readme} has to begin with a title and a paragraph on what was found.")
    return blocks[0].removeprefix("# "), blocks[1].strip()
