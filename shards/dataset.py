"""The clips of a split, in one folder of shards or several: how many there are, and what each holds.

Only manifests are read at the start; a shard is opened when one of its samples is wanted, and the least recently used
ones are closed, so that memory and descriptors stay bounded for any number of shards.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.clip import Clip, Fault
from shards.decode import read_members
from shards.index import ShardIndex, open_index
from shards.manifest import BadManifest, Manifest, read_manifest
from shards.remote import is_remote, local_path
from shards.sample import BadSample, parse_meta
from shards.stream import ClipStream, Step
from shards.tar import Member

if TYPE_CHECKING:
    from shards.cache import ShardCache

__all__ = ["Clip", "ClipSet", "ClipStream", "Fault", "OpenShard", "Step"]

OPEN_SHARDS = 128
"""Shards kept open per process: those of several shuffle windows."""
OPEN_REMOTE = 24
"""The same for shards in the cache, whose disk space is freed only when nobody has them open any more."""


class OpenShard:
    """An open tar and its index; closed when nobody holds it any more, also if its file is removed meanwhile."""

    def __init__(self, path: str | os.PathLike[str], sha256: str | None = None) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.path = Path(path)
        self.index: ShardIndex = open_index(path, sha256)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.descriptor)


@dataclass(frozen=True)
class Place:
    """Where a sample is: an open shard, the sample's key in it, and its members."""

    shard: OpenShard
    key: str
    members: dict[str, Member]


class ClipSet:
    """All clips of a split.

    Attributes:
        split: train, valid or test.
        manifests: one per folder.
        sizes: (S,) int64, samples of each shard, the shards of all folders in one list.
        dataset: name of the dataset, or the names joined with "+".
    """

    def __init__(
        self,
        folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        split: str,
        cache: ShardCache | None = None,
    ) -> None:
        """Read the manifests.

        Args:
            folders: folders of shards or their URLs, one or several.
            split: which part of them.
            cache: where remote shards are kept; needed for URLs.

        Raises:
            ValueError: no manifest, a damaged one, no such split, or folders of different tasks.
        """
        listed = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
        self.folders = [local_path(os.fspath(folder)) for folder in listed]
        if not self.folders:
            raise ValueError("data.shards: expected at least one folder of shards, found none")
        self.split, self.cache = split, cache
        self.manifests = [self._manifest(folder) for folder in self.folders]
        tasks = {manifest.task for manifest in self.manifests}
        if len(tasks) > 1:
            raise ValueError(f"data.shards: expected folders of one task, found {' and '.join(sorted(tasks))}")
        for folder, manifest in zip(self.folders, self.manifests):
            if split not in manifest.splits or not manifest.splits[split].samples:
                found = ", ".join(name for name, part in sorted(manifest.splits.items()) if part.samples)
                raise ValueError(f"{folder}: expected samples in split {split}, found some in {found or 'none'} only")
        self.task = self.manifests[0].task
        self.dataset = "+".join(dict.fromkeys(manifest.dataset for manifest in self.manifests))
        self._entries = [
            (number, entry) for number, manifest in enumerate(self.manifests) for entry in manifest.splits[split].shards
        ]
        self.sizes = np.array([entry.samples for _, entry in self._entries], np.int64)
        self._ends = np.cumsum(self.sizes)
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """(shard, row) of the sample with this number in the split."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return shard, int(index - self._ends[shard] + self.sizes[shard])

    def index(self, shard: int, row: int) -> int:
        """Number of a sample in the split."""
        return int(self._ends[shard] - self.sizes[shard]) + row

    def place(self, shard: int, row: int) -> Place:
        """Open a sample's shard and find its members.

        Raises:
            BadSample: the shard cannot be opened, or does not hold the sample.
        """
        try:
            opened = self._opened(shard)
        except FileNotFoundError as error:
            raise BadSample("missing", f"{self._path(shard)} is not there any more") from error
        except (OSError, ValueError) as error:
            raise BadSample("unreadable", str(error)) from error
        if row >= len(opened.index):
            cause = opened.index.errors[0] if opened.index.errors else f"it has {len(opened.index)} samples"
            raise BadSample("missing", f"{self._path(shard)}: sample {row} is not in the shard: {cause}")
        return Place(opened, opened.index.key(row), opened.index.members(row))

    def read(self, shard: int, row: int) -> dict[str, bytes]:
        """The bytes of a sample's members by their ending.

        Raises:
            BadSample: they cannot be read, or are not those that were packed.
        """
        place = self.place(shard, row)
        return {suffix: bytes(data) for suffix, data in read_members(place.shard.descriptor, place.members).items()}

    def meta(self, shard: int, row: int) -> dict[str, Any]:
        """KEY.json of a sample.

        Raises:
            BadSample: as `read`, or it is not what FORMAT.md says.
        """
        place = self.place(shard, row)
        try:
            if "json" not in place.members:
                raise BadSample("missing", "the sample has no KEY.json")
            return parse_meta(read_members(place.shard.descriptor, {"json": place.members["json"]})["json"])
        except BadSample as error:
            where = f"{self._path(shard)}: sample {place.key}"
            raise BadSample(
                error.cause, f"{where}: {error.detail}; launch/verify.py tells more", error.member
            ) from None

    def where(self, shard: int) -> str:
        """Path of a shard for people."""
        return self._entries[shard][1].file if len(self.folders) == 1 else self._path(shard)

    def _path(self, shard: int) -> str:
        number, entry = self._entries[shard]
        return f"{self.folders[number]}/{entry.file}"

    def prefetch(self, shards: Sequence[int]) -> None:
        """Have remote shards fetched in the background, the first first."""
        if self.cache is not None:
            self.cache.prefetch([(self.folders[n], entry) for n, entry in (self._entries[s] for s in shards)])

    def _opened(self, shard: int) -> OpenShard:
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
        number, entry = self._entries[shard]
        folder = self.folders[number]
        path = self.cache.fetch(folder, entry) if self.cache and is_remote(folder) else Path(folder) / entry.file
        opened = OpenShard(path, entry.sha256)
        with self._lock:
            self._open[shard] = opened
            while len(self._open) > (OPEN_REMOTE if self.cache else OPEN_SHARDS):
                self._open.popitem(last=False)
        return opened

    def _manifest(self, folder: str) -> Manifest:
        if not is_remote(folder):
            return read_manifest(folder)
        if self.cache is None:
            raise BadManifest(f"{folder}: expected a cache for remote shards; set data.cache_dir")
        return self.cache.manifest(folder)
