"""Parameters at inference against MAE (section 5.5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vadv.report.figures.style import COLUMN, LOOKS, figure, shorten
from vadv.report.table import Row, Table


@dataclass(frozen=True)
class _Point:
    name: str
    published: bool
    millions: float
    mae: float
    std: float | None


def parameters_mae(table: Table) -> Any | None:
    """The points of Table 5: published ones hollow, measured ones filled with their deviation over seeds.

    Returns:
        None where the table has no measured point.
    """
    points = [point for row in table.rows if (point := _point(row))]
    if all(point.published for point in points):
        return None
    drawn, axis = figure(COLUMN, 2.7)
    for point in points:
        look = LOOKS[2] if point.published else LOOKS[0]
        axis.errorbar(
            [point.millions],
            [point.mae],
            yerr=None if point.std is None else [point.std],
            marker=look.marker,
            color=look.colour,
            markerfacecolor="white" if point.published else look.colour,
            capsize=2,
            linestyle="none",
        )
    _label(axis, points)
    for look, face, text in ((LOOKS[2], "white", "published"), (LOOKS[0], LOOKS[0].colour, "ours, mean ± std")):
        axis.plot([], [], marker=look.marker, color=look.colour, markerfacecolor=face, ls="none", label=text)
    axis.set(xscale="log", xlabel="parameters at inference (millions)", ylabel="MAE (lower is better)")
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.12, y=0.12)
    drawn.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2, handletextpad=0.2)
    return drawn


def _label(axis: Any, points: list[_Point]) -> None:
    """Names beside points: right of those left of the middle, left of the others, moved up where two would meet."""
    sizes, heights = [point.millions for point in points], [point.mae for point in points]
    middle = (min(sizes) * max(sizes)) ** 0.5
    least = max((max(heights) - min(heights)) / 18, 1e-4)
    taken: list[tuple[bool, float]] = []
    for point in sorted(points, key=lambda point: point.mae):
        right, place = point.millions <= middle, point.mae
        while any(side == right and abs(place - other) < least * 0.999 for side, other in taken):
            place += least / 4
        taken.append((right, place))
        colour = "#444444" if point.published else LOOKS[0].colour
        anchor = axis.annotate(
            point.name,
            (point.millions, place),
            xytext=(14 if right else -14, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=6,
            color=colour,
        )
        # A hair from the name to its point, for where it had to move.
        axis.annotate(
            "",
            (point.millions, point.mae),
            xytext=(0 if right else 1, 0.5),
            textcoords=anchor,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": colour, "shrinkA": 1, "shrinkB": 2},
        )


def _point(row: Row) -> _Point | None:
    size, mae = row.cells.get("parameters", []), row.cells.get("mae", [])
    millions = re.fullmatch(r">?([\d.]+)M", size[0].text) if size else None
    if not millions or not mae or mae[0].value is None:
        return None
    # A figure has no room for references: the table names them.
    name = re.sub(r"\s*\([^()]*et al[^()]*\)|, \w+-based", "", row.label)
    return _Point(shorten(name, 30), row.published, float(millions[1]), mae[0].value, mae[0].std)
