"""The folder of remote shards and cached features: writable, large enough for the configuration, and how fast."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vadv.clips import open_clips
from vadv.config import Config
from vadv.doctor import Finding, fail, ok, warn
from vadv.doctor.machine import GIB, GIVES_UP

BLOCK, BLOCKS = 4 * 2**20, 16
"""Bytes of a block and number of blocks that are written and read to measure the disk."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something that is kept there.

    Attributes:
        what: for people.
        total: bytes of all of it.
        limit: bytes that are kept at most.
        setting: where that bound is set.
        beyond: what happens to the rest.
        clip: bytes of one clip.
    """

    what: str
    total: int
    limit: int
    setting: str
    beyond: str
    clip: float


def cache(config: Config) -> Iterator[Finding]:
    """Space and speed of `data.cache_dir` against what remote shards and the feature cache put there."""
    folder = config.data.cache_folder()
    try:
        needs = [*_shards(config), *_features(config)]
    except GIVES_UP:
        return  # shards or weights are wrong, and told of elsewhere
    if not needs:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written, read = _rates(folder)
    except OSError as error:
        yield fail("cache", f"{folder}: {error}", "set data.cache_dir to a folder on a local disk")
        return
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize + _taken(folder)
    for need in needs:
        text = (
            f"{need.what} need {need.total / GIB:.2f} GiB, {need.setting} {need.limit / GIB:.0f}, {free / GIB:.0f} GiB "
            f"free in {folder}; writes {written / 2**20:.0f}, reads {read / 2**20:.0f} MiB/s = "
            f"{read / need.clip:.0f} clips/s"
        )
        if min(need.total, need.limit) > free:
            yield fail("cache", text, f"set data.cache_dir to a disk with room, or lower {need.setting}")
        elif need.total > need.limit:
            yield warn("cache", text, f"{need.beyond}: raise {need.setting} where there is room")
        else:
            yield ok("cache", text)


def _shards(config: Config) -> Iterator[Need]:
    from shards.remote import is_remote

    for folder, manifest in zip(config.data.folders(), open_clips(config.data, "train").manifests, strict=True):
        if is_remote(folder):
            total = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
            clips = sum(split.samples for split in manifest.splits.values())
            yield Need(
                what=f"shards of {folder}",
                total=total,
                limit=config.data.cache_bytes,
                setting="data.cache_bytes",
                beyond="shards are fetched again in each epoch",
                clip=total / max(1, clips),
            )


def _features(config: Config) -> Iterator[Need]:
    import torch

    from vadv.training.shapes import meta_task

    teacher = config.teacher
    if teacher is None or not teacher.cache_features:
        return
    module: Any = meta_task(config).module
    geometry, train = module.teacher.geometry, open_clips(config.data, "train")
    views = min(config.data.views or config.train.epochs, config.train.epochs)
    count = len(train) * views + sum(
        manifest.splits[name].samples
        for manifest in train.manifests
        for name in ("valid", "test")
        if name in manifest.splits
    )
    clip = config.data.frames * (geometry.patches + 1) * geometry.width * getattr(torch, teacher.cache_dtype).itemsize
    yield Need(
        what=f"features of {count} clips and views",
        total=count * clip,
        limit=teacher.cache_bytes,
        setting="teacher.cache_bytes",
        beyond="clips beyond it are encoded in each epoch",
        clip=clip,
    )


def _taken(folder: Path) -> int:
    """Bytes that are kept there already: they are part of what is needed, or make room for it."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _rates(folder: Path) -> tuple[float, float]:
    """Bytes per second written to the disk, and read from the disk itself."""
    block = os.urandom(BLOCK)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        begin = time.perf_counter()
        for _ in range(BLOCKS):
            file.write(block)
        os.fsync(file.fileno())
        written = BLOCKS * BLOCK / (time.perf_counter() - begin)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        begin = time.perf_counter()
        while file.read(BLOCK):
            pass
        return written, BLOCKS * BLOCK / (time.perf_counter() - begin)
