"""The layout of MMSA's datasets: label.csv beside Raw/VIDEO_ID/CLIP_ID.mp4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shards.sources.record import Raw, Rejected, UnsafePath, path_below, to_number
from shards.sources.table import read_table

COLUMNS = ("video_id", "clip_id", "text", "label", "mode")


@dataclass(kw_only=True)
class Mmsa:
    """any dataset in MMSA's layout: label.csv beside Raw/VIDEO_ID/CLIP_ID.mp4"""

    root: Path = field(metadata={"help": "folder with label.csv and Raw/"})
    name: str = field(default="", metadata={"help": "name of the dataset; default: the folder's name"})

    task: Literal["sentiment", "retrieval"] = field(default="sentiment", init=False)

    @property
    def dataset(self) -> str:
        return self.name or self.root.resolve().name

    def __iter__(self) -> Iterator[Raw | Rejected]:
        for row in read_table(self.root / "label.csv", COLUMNS):
            yield self.record(row)

    def record(self, row: dict[str, str]) -> Raw | Rejected:
        """A row of label.csv. Its id is MMSA's own: VIDEO_ID$_$CLIP_ID."""
        video_id, clip_id = row["video_id"].strip(), row["clip_id"].strip()
        identity = f"{video_id}$_${clip_id}"
        try:
            video = path_below(self.root / "Raw", video_id, f"{clip_id}.mp4")
        except UnsafePath as error:
            return Rejected(id=identity, cause="unsafe path", detail=str(error))
        return Raw(
            id=identity,
            text=row["text"],
            label=to_number(row["label"]),
            split=row["mode"].strip(),
            video=video,
            video_id=video_id,
            clip_id=clip_id,
        )


SOURCE: type = Mmsa
