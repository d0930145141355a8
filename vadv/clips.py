"""The clips that a configuration names, wherever they lie."""

from __future__ import annotations

import functools
from pathlib import Path

from shards.cache import ShardCache
from shards.dataset import ClipSet
from shards.remote import is_remote
from vadv.config import Data


def open_clips(data: Data, split: str) -> ClipSet:
    """A split of `data.shards`; remote folders come through the cache in `data.cache_dir`.

    Raises:
        ValueError: no shards there, a damaged manifest, or no such split.
    """
    remote = any(is_remote(folder) for folder in data.folders())
    return ClipSet(data.folders(), split, _cache(data.cache_folder(), data.cache_bytes) if remote else None)


def enlarged(clips: ClipSet, frame_size: int) -> str | None:
    """A line for people when clips were packed smaller than `data.frame_size`, so that training blows them up."""
    sizes = [
        manifest.packing.get("short_side")
        for manifest in clips.manifests
        if manifest.packing.get("mode") == "transcode"
    ]
    smallest = min((size for size in sizes if isinstance(size, int)), default=frame_size)
    if smallest >= frame_size:
        return None
    return (
        f"clips were packed with a short side of {smallest} pixels and are enlarged to data.frame_size {frame_size}: "
        f"pack them with --short-side {frame_size} for sharper ones"
    )


@functools.cache
def _cache(folder: Path, max_bytes: int) -> ShardCache:
    """One for all splits of a process."""
    return ShardCache(folder, max_bytes)
