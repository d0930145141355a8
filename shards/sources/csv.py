"""Clips of one's own: one CSV file with id, video, text, label, split and, if wanted, start and end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shards.sources.record import Raw, Rejected, UnsafePath, path_below, to_number
from shards.sources.table import read_table

COLUMNS = ("id", "video", "text", "label", "split")


@dataclass(kw_only=True)
class Csv:
    """your own clips: a CSV with id, video, text, label, split [, start, end in seconds]"""

    root: Path = field(metadata={"help": "folder that the paths in the table are relative to"})
    table: str = field(default="clips.csv", metadata={"help": "the table, relative to --root (default: clips.csv)"})
    name: str = field(default="", metadata={"help": "name of the dataset; default: the folder's name"})

    task: Literal["sentiment", "retrieval"] = field(default="sentiment", init=False)

    @property
    def dataset(self) -> str:
        return self.name or self.root.resolve().name

    def __iter__(self) -> Iterator[Raw | Rejected]:
        for row in read_table(self.root / self.table, COLUMNS):
            yield self.record(row)

    def record(self, row: dict[str, str]) -> Raw | Rejected:
        """A row of the table; empty `start` and `end` mean the whole file."""
        identity = row["id"].strip()
        try:
            video = path_below(self.root, row["video"])
        except UnsafePath as error:
            return Rejected(id=identity, cause="unsafe path", detail=str(error))
        start, end = _seconds(row.get("start", "")), _seconds(row.get("end", ""))
        if not (start is None or start >= 0) or not (end is None or end > (start or 0)):
            found = f"start {row.get('start')!r}, end {row.get('end')!r}"
            return Rejected(id=identity, cause="bad cut", detail=f"expected 0 <= start < end in seconds, found {found}")
        return Raw(
            id=identity,
            text=row["text"],
            label=to_number(row["label"]),
            split=row["split"].strip(),
            video=video,
            video_id=row.get("video_id", "") or row["video"],
            clip_id=row.get("clip_id", ""),
            start=start,
            end=end,
        )


def _seconds(cell: str) -> float | None:
    """None for an empty cell; NaN, which fails every comparison, for anything that is no number."""
    return to_number(cell) if cell.strip() else None


SOURCE: type = Csv
