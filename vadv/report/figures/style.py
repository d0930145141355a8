"""One look for all figures: sizes of a paper column, type that is legible there, colours for everybody.

Series differ in colour (Okabe and Ito's palette, told apart with any common colour blindness), in lightness, and in
line style, marker or hatch, so that a print in grey loses nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMN, PAGE = 3.35, 7.0
"""Width of one column and of both, in inches (IEEE, ACL and Elsevier lie within 0.15 of it)."""
DPI = 300


@dataclass(frozen=True)
class Look:
    """How one series is drawn."""

    colour: str
    line: Any
    marker: str
    hatch: str


LOOKS = (
    Look("#0072B2", "-", "o", ""),
    Look("#D55E00", (0, (5, 1.5)), "s", "///"),
    Look("#000000", (0, (1, 1.2)), "^", "..."),
    Look("#CC79A7", (0, (4, 1.2, 1, 1.2)), "D", "\\\\\\"),
    Look("#009E73", (0, (7, 2, 2, 2)), "v", "xxx"),
)
NEGATIVE, POSITIVE = Look("#D55E00", "-", "s", "////"), Look("#0072B2", "-", "o", "")
"""The two sentiment classes, as in Fig. 3; the second holds 0."""

_SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.5,
    "figure.constrained_layout.use": True,
    "savefig.dpi": DPI,
    # Letters as outlines: an SVG looks the same wherever it is opened.
    "svg.fonttype": "path",
    # Same data, same bytes.
    "svg.hashsalt": "videoadviser",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The settings of all figures, while one is drawn or saved."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


def figure(
    width: float = COLUMN, height: float = 2.3, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Any, Any]:
    """A figure in inches and its axes (rows x columns, squeezed); without pyplot, so nothing stays open."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height))
    return drawn, drawn.subplots(rows, columns, **options)


def save(drawn: Any, folder: Path, name: str) -> tuple[Path, Path]:
    """Write NAME.png (300 dpi) and NAME.svg; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    drawn.savefig(png, metadata={"Software": None})
    drawn.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg


def escaped(text: str) -> str:
    """Text that matplotlib prints as it is: `$` would start mathematics."""
    return text.replace("$", r"\$")


def shorten(text: str, most: int = 28) -> str:
    """A label that fits a legend."""
    return escaped(text if len(text) <= most else text[: most - 1] + "…")
