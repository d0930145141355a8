"""A pair of files: records of one size, and an index entry for each record that is whole (FORMAT.md)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PAGE = 4096
"""Records are whole pages."""
_ENTRY = struct.Struct("<16sQQ")
ENTRY_BYTES = _ENTRY.size
_NOTHING = bytes(ENTRY_BYTES)
_PIECE = 256 * PAGE
"""Bytes read at once: they are summed while still in the processor's cache."""


def checksum(record: np.ndarray, first_page: int = 0) -> int:
    """64-bit sum of a record's 64-bit words, those of each page weighed by the page's own odd number.

    It tells what disks and crashes do (pages lost, zeroed, old or swapped, any single flipped bit) several times faster
    than a CRC, at the speed of memory. It is no protection against intent, and not meant to be.

    Args:
        record: (bytes,) uint8, whole pages.
        first_page: of a piece of a record: its place there. The sums of the pieces add up, modulo 2^64.
    """
    pages = np.add.reduce(record.view(np.uint64).reshape(-1, PAGE // 8), axis=1)
    weights = np.arange(2 * first_page + 1, 2 * (first_page + len(pages)), 2, dtype=np.uint64)
    return int(np.add.reduce(pages * weights))


class Segment:
    """One pair of files.

    Args:
        folder: of the key.
        number: of the pair.
        size: bytes of a record.
        create: make the pair, which must not be there.

    Raises:
        FileExistsError: `create`, and it is there.
    """

    def __init__(self, folder: Path, number: int, size: int, create: bool = False) -> None:
        self.number, self.size = number, size
        flags = os.O_RDWR | os.O_CLOEXEC
        index = folder / f"{number:06d}.idx"
        self._index = os.open(index, flags | (os.O_CREAT | os.O_EXCL if create else 0), 0o666)
        try:
            # Made when missing: a maker may have been killed between the two files.
            self._data = os.open(folder / f"{number:06d}.dat", flags | os.O_CREAT, 0o666)
        except OSError:
            os.close(self._index)
            raise
        self._seen = 0

    def claim(self) -> bool:
        """Try to become the pair's only writer, until `close` or the end of the process."""
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        os.ftruncate(self._index, self.records * ENTRY_BYTES)  # half an entry of a writer that was killed
        return True

    @property
    def records(self) -> int:
        """Entries written so far, by any process."""
        return os.fstat(self._index).st_size // ENTRY_BYTES

    @property
    def room(self) -> int:
        """Records for which the file has room beyond those written."""
        return os.fstat(self._data).st_size // self.size - self.records

    def new(self) -> Iterator[tuple[bytes, int, int]]:
        """Name, slot and checksum of the records added since the last call."""
        first, self._seen = self._seen, max(self._seen, self.records)
        entries = os.pread(self._index, (self._seen - first) * ENTRY_BYTES, first * ENTRY_BYTES)
        for i, (name, total, check) in enumerate(_ENTRY.iter_unpack(entries)):
            if check == _check(name, total, first + i):
                yield name, first + i, total

    def append(self, name: bytes, record: np.ndarray) -> tuple[int, int]:
        """Write a record and then its entry; for the claimant, when there is room. Returns slot and checksum."""
        slot, total = self.records, checksum(record)
        view, offset = record.data, slot * self.size
        while view:
            written = os.pwrite(self._data, view, offset)
            view, offset = view[written:], offset + written
        os.pwrite(self._index, _ENTRY.pack(name, total, _check(name, total, slot)), slot * ENTRY_BYTES)
        return slot, total

    def read(self, slot: int, total: int, out: np.ndarray) -> bool:
        """Fill `out`, (size,) uint8; whether it is what was written."""
        found, offset = 0, slot * self.size
        try:
            for start in range(0, self.size, _PIECE):
                piece = out[start : start + _PIECE]
                if not self._fill(piece, offset + start):
                    return False
                found += checksum(piece, start // PAGE)
        except OSError:
            return False
        return found % 2**64 == total

    def _fill(self, piece: np.ndarray, offset: int) -> bool:
        view = piece.data
        while view and (count := os.preadv(self._data, [view], offset)):
            view, offset = view[count:], offset + count
        return not view

    def forget(self, slot: int) -> None:
        """Take back a record that cannot be read, for all processes."""
        with contextlib.suppress(OSError):  # then it will be found damaged again
            os.pwrite(self._index, _NOTHING, slot * ENTRY_BYTES)

    def grow(self, records: int) -> None:
        """Make room for so many more records, or leave the file as it is.

        Raises:
            OSError: the disk has no room.
        """
        before = os.fstat(self._data).st_size
        try:
            os.posix_fallocate(self._data, before, records * self.size)
        except OSError:
            os.ftruncate(self._data, before)
            raise

    def trim(self) -> None:
        """Give back room that was not used; for the claimant."""
        os.ftruncate(self._data, self.records * self.size)

    def close(self) -> None:
        """Close both files, which ends a claim."""
        os.close(self._index)
        os.close(self._data)


def _check(name: bytes, total: int, slot: int) -> int:
    return zlib.crc32(struct.pack("<16sQQ", name, total, slot))
