"""Files that are there completely or not at all, also after kill -9 or a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write that appears under `path` when the block ends well, its bytes on the disk by then.

    Args:
        temporary: where it grows, on the same file system; default: beside `path`, with the ending .part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary or path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` into the file `path`, replacing it in one step."""
    with written_whole(path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
