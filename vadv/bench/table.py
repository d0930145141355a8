"""The rows that every benchmark returns, printed or written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Row:
    """One measurement."""

    what: str
    value: float
    unit: str
    ratio: float | None = None
    """How much better than `to` (or what share of it), so that more is better; None when there is nothing to compare."""
    to: str = ""
    """The limit or the peer."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further columns."""


def as_text(rows: Sequence[Row]) -> str:
    """A table aligned for a terminal."""
    extra = list(dict.fromkeys(key for row in rows for key in row.more))
    lines = [["what", "value", "unit", "ratio", "to", *extra]]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        cells = [row.what, f"{row.value:.4g}", row.unit, ratio, row.to]
        lines.append(cells + [str(row.more.get(key, "")) for key in extra])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The same for a file."""
    return [asdict(row) for row in rows]
