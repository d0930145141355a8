"""Records found by name, in files that several processes read and append to at once (FORMAT.md)."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vadv.features.room import open_key, reserve
from vadv.features.segment import PAGE, Segment

log = logging.getLogger(__name__)

GROWTH = 256 * 2**20
"""Bytes by which a file of records grows at once."""
REFRESH = 1.0
"""Seconds between looks at what other processes have added."""


class FeatureStore:
    """The records of one key. One thread may read while another writes.

    Args:
        root: folder of all keys.
        key: name of the key's folder.
        size: bytes of a record, whole pages.
        limit: bound on the files of all keys together, in bytes.
        about: what the key was made of, for people.
    """

    def __init__(self, root: Path, key: str, size: int, limit: int, about: Mapping[str, Any]) -> None:
        assert size % PAGE == 0, size
        self.root, self.folder, self.size, self.limit = root, root / key, size, limit
        self.full = False
        """Whether this process has stopped to store."""
        self._in_use = open_key(self.folder)
        self._segments: dict[int, Segment] = {}
        self._own: Segment | None = None
        self._places: dict[bytes, tuple[Segment, int, int]] = {}
        self._lock = threading.Lock()
        self._looked = 0.0
        if not (self.folder / "about.json").is_file():
            scratch = self.folder / f".about-{os.getpid()}.tmp"
            scratch.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            scratch.replace(self.folder / "about.json")
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: bytes) -> bool:
        if name not in self._places and time.monotonic() > self._looked + REFRESH:
            self.refresh()
        return name in self._places

    def refresh(self) -> None:
        """Look at what other processes have added."""
        with self._lock:
            self._looked = time.monotonic()
            for path in sorted(self.folder.glob("*.idx")):
                number = int(path.stem)
                if number not in self._segments:
                    self._segments[number] = Segment(self.folder, number, self.size)
                for name, slot, total in self._segments[number].new():
                    self._places[name] = (self._segments[number], slot, total)

    def read(self, name: bytes, out: np.ndarray) -> bool:
        """Fill `out`, (size,) uint8, with a record.

        Returns:
            Whether there is such a record, and it is whole.
        """
        place = self._places.get(name) if name in self else None
        if place is None:
            return False
        segment, slot, total = place
        if segment.read(slot, total, out):
            return True
        log.warning("%s: record %d of %06d is damaged; its clip is encoded again", self.folder, slot, segment.number)
        self._places.pop(name, None)
        segment.forget(slot)
        return False

    def write(self, name: bytes, record: np.ndarray) -> bool:
        """Add a record, (size,) uint8, unless it is there or there is no room.

        Whatever the disk refuses ends storing, not the run.

        Returns:
            Whether it is stored.
        """
        if self.full or name in self:
            return not self.full
        try:
            self._own = self._own or self._claim()
            growth = max(1, GROWTH // self.size)
            if self._own.room < 1 and not reserve(self.root, self.folder, self._own, growth, self.limit):
                return self._stop(f"no room below teacher.cache_bytes={self.limit}")
            slot, total = self._own.append(name, record)
        except OSError as error:
            return self._stop(str(error))
        with self._lock:
            self._places[name] = (self._own, slot, total)
        return True

    def close(self) -> None:
        """Close all files and let others remove the key when they need room."""
        if self._own is not None:
            self._own.trim()
        for segment in self._segments.values():
            segment.close()
        self._segments, self._places, self._own = {}, {}, None
        os.close(self._in_use)

    def _claim(self) -> Segment:
        """A pair of files to write to: one without a writer, else a new one."""
        self.refresh()
        for segment in self._segments.values():
            if segment.claim():
                return segment
        while True:
            number = max(self._segments, default=-1) + 1
            try:
                segment = Segment(self.folder, number, self.size, create=True)
            except FileExistsError:  # another process was quicker
                self.refresh()
                continue
            with self._lock:
                self._segments[number] = segment
            if segment.claim():
                return segment

    def _stop(self, why: str) -> bool:
        log.warning("%s: %d clips stored, no more: %s; the others are encoded each time", self.folder, len(self), why)
        self.full = True
        return False
