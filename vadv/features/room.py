"""Room on the disk: who has a key open, how much all keys together may take, which ones make way (FORMAT.md)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vadv.features.segment import ENTRY_BYTES, Segment

IN_USE, LOCK, GONE = "in-use", "lock", ".gone-"


def open_key(folder: Path) -> int:
    """Make a key's folder if need be, and keep others from removing it until the descriptor returned is closed."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held = os.open(folder / IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # removed in between
        fcntl.flock(held, fcntl.LOCK_SH)
        try:
            if os.path.samestat(os.fstat(held), (folder / IN_USE).stat()):
                os.utime(held)
                return held
        except FileNotFoundError:
            pass
        os.close(held)  # removed while this process waited for the lock


def reserve(root: Path, own: Path, segment: Segment, wanted: int, limit: int) -> bool:
    """Make a pair of files longer, within the bound on all keys.

    Args:
        root: folder of all keys.
        own: folder of the key that the pair belongs to.
        segment: the pair, claimed by this process.
        wanted: records to grow by; it may become fewer, but at least one.
        limit: bound in bytes.

    Returns:
        Whether there is room for at least one more record.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    record = segment.size + ENTRY_BYTES
    with _locked(root):
        room = limit - _taken(root)
        for key in _others(root, own):
            if room >= record:
                break
            room += _remove(root, key)
        if room >= record:
            segment.grow(min(wanted, room // record))
        return room >= record


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _taken(folder: Path) -> int:
    """Bytes of all files in a folder; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _others(root: Path, own: Path) -> list[Path]:
    """Folders of other keys, what an interrupted removal left first, then the least recently used."""

    def last_use(folder: Path) -> float:
        with contextlib.suppress(FileNotFoundError):
            return 0.0 if folder.name.startswith(GONE) else (folder / IN_USE).stat().st_mtime
        return 0.0

    return sorted((path for path in root.iterdir() if path.is_dir() and path != own), key=last_use)


def _remove(root: Path, key: Path) -> int:
    """Remove a key that nobody has open; returns the bytes freed."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(FileNotFoundError):
            held = stack.enter_context((key / IN_USE).open("r+"))
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return 0
        freed = _taken(key)
        # Renamed first: a process that opens the key from now on makes it anew.
        gone = key if key.name.startswith(GONE) else key.rename(root / f"{GONE}{key.name}-{os.getpid()}")
        shutil.rmtree(gone, ignore_errors=True)
        return freed
