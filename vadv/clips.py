"""The clips that a configuration names, wherever they lie."""

from __future__ import annotations

import functools
from pathlib import Path

from shards.cache import ShardCache
from shards.dataset import ClipSet
from shards.remote import is_remote
from vadv.config import Data


def open_clips(data: Data, split: str, packed_for: str | None = None) -> ClipSet:
    """A split of `data.shards`; remote folders come through the cache in `data.cache_dir`.

    Args:
        data: where the clips are.
        split: which of them.
        packed_for: the task in the shards' manifests, which says what labels mean; None: any.

    Raises:
        ValueError: no shards there, a damaged manifest, no such split, or shards of another task.
    """
    remote = any(is_remote(folder) for folder in data.folders())
    clips = ClipSet(data.folders(), split, _cache(data.cache_folder(), data.cache_bytes) if remote else None)
    if packed_for not in (None, clips.task):
        raise ValueError(
            f"{', '.join(data.folders())}: expected shards of the {packed_for} task, found {clips.task}; name shards "
            "that were packed for it, or the task that these are for"
        )
    return clips


def coarser(clips: ClipSet, data: Data) -> str | None:
    """A line for people when clips were packed with smaller pictures, or fewer, than the configuration asks for."""
    for option, wanted, what in (
        ("frame_size", data.frame_size, "pictures of {} pixels, which are enlarged"),
        ("frames", data.frames, "at most {} pictures each, some of which are shown twice"),
    ):
        found = [m.packing.get(option) for m in clips.manifests if m.packing.get("mode") == "transcode"]
        least = min((number for number in found if isinstance(number, int)), default=wanted)
        if least < wanted:
            return (
                f"clips were packed with {what.format(least)} (data.{option} is {wanted}): "
                f"pack them with --{option.replace('_', '-')} {wanted}"
            )
    return None


@functools.cache
def _cache(folder: Path, max_bytes: int) -> ShardCache:
    """One for all splits of a process."""
    return ShardCache(folder, max_bytes)
