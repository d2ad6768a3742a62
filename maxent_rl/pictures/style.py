"""How the pictures of a run look, and how they reach the disk.

Matplotlib is used through its objects alone, never through `pyplot`: no global state, so any thread may draw.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from maxent_rl.storage.files import storage_errors

INK, FAINT, GRID = "#111827", "#6b7280", "#e5e7eb"

# Okabe and Ito's colours, told apart by people with any colour vision, in the order in which neighbours differ most; yellow
# and black are left out, one too faint on white and the other too loud as an area.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7F7F7F", "#3B2A78")


def colours(count: int) -> list[str]:
    """Colours for `count` things: up to eight that anyone can tell apart, beyond that a scale from dark to light."""
    if count <= len(_COLOURS):
        return list(_COLOURS[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](index / (count - 1))) for index in range(count)]


def style(axes: Any) -> None:
    """Takes from axes what does not carry data."""
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(length=0, colors=FAINT, labelsize=9)
    axes.margins(y=0.08)


def heading(axes: Any, title: str, subtitle: str) -> None:
    """Writes a title and a line of details above axes."""
    # Names may hold a dollar sign, which Matplotlib would read as mathematics.
    axes.set_title(title, loc="left", pad=24, color=INK, fontsize=13, fontweight="bold", parse_math=False)
    axes.annotate(
        subtitle,
        xy=(0, 1),
        xytext=(0, 9),
        xycoords="axes fraction",
        textcoords="offset points",
        color=FAINT,
        fontsize=9.5,
        parse_math=False,
    )


def save(figure: Any, path: Path, dpi: int = 160) -> Path:
    """Writes a figure as PNG in one go: no reader meets half of it.

    Raises:
      StorageError: the picture cannot be written.
    """
    with storage_errors(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        figure.savefig(partial, format="png", dpi=dpi)
        os.replace(partial, path)
    return path
