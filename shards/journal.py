"""Which part of a pack is done: units of work fixed beforehand, and one entry on the disk for each that is finished."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.durable import write_whole
from shards.sources.record import SPLITS, Raw


@dataclass(frozen=True)
class Unit:
    """One shard to be: its split, its number there, the running number of its first record, its records."""

    split: str
    number: int
    first: int
    records: list[Raw]

    @property
    def file(self) -> str:
        return f"{self.split}/{self.number:06d}.tar"

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:06d}"


def units_of(records: Iterable[Raw], shard_clips: int) -> list[Unit]:
    """Records of each split in their order, cut into shards of `shard_clips`."""
    by_split: dict[str, list[Raw]] = {split: [] for split in SPLITS}
    for record in records:
        by_split[record.split].append(record)
    return [
        Unit(split, first // shard_clips, first, members[first : first + shard_clips])
        for split, members in by_split.items()
        for first in range(0, len(members), shard_clips)
    ]


@dataclass(frozen=True)
class Journal:
    """The entries of one pack.

    Attributes:
        out: folder of the shards.
        work: folder of what is under way, on the same disk.
    """

    out: Path
    work: Path

    def claim(self, settings: dict[str, Any]) -> None:
        """Note which pack is being made in `out`, or check that it is the same one.

        Raises:
            ValueError: `out` holds something else.
        """
        plan = self.work / "plan.json"
        if plan.exists():
            require_same(self.out, json.loads(plan.read_text()), settings)
            return
        strangers = sorted(path.name for path in self.out.iterdir() if path != self.work)
        if strangers:
            raise ValueError(
                f"{self.out}: expected an empty folder for new shards, found {strangers[0]!r} in it; choose another --out"
            )
        write_whole(plan, json.dumps(settings).encode())

    def entry(self, unit: Unit) -> dict[str, Any] | None:
        """What is known of a finished unit, if that is still true of the disk."""
        path = self._path(unit)
        if not path.exists():
            return None
        entry: dict[str, Any] = json.loads(path.read_text())
        shard, tar = entry["shard"], self.out / unit.file
        return entry if shard is None or (tar.exists() and tar.stat().st_size == shard["bytes"]) else None

    def write(self, unit: Unit, entry: dict[str, Any]) -> None:
        """Note that a unit is finished; its tar has its name by now."""
        write_whole(self._path(unit), json.dumps(entry).encode())

    def _path(self, unit: Unit) -> Path:
        return self.work / "done" / f"{unit.name}.json"


def require_same(out: Path, found: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse to go on with a pack of other input or settings.

    Raises:
        ValueError: naming what differs.
    """
    differing = [key for key in settings if found.get(key) != settings[key]]
    if not differing:
        return
    what = "other input (rows or video files have changed)"
    if differing != ["input"]:
        what = "other settings (" + ", ".join(f"{key} {found.get(key)}" for key in differing if key != "input") + ")"
    raise ValueError(
        f"{out}: expected an empty folder or this same pack, found one of {what}; remove it or choose another --out"
    )
