"""Frame strips of clips, from shards: a few frames side by side as one small JPEG."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

FRAMES, SIZE = 6, 96
"""Frames of a strip, and their height and width in pixels."""
TIMEOUT = 30.0
"""Seconds after which a clip's decoder is killed and the clip goes without pictures."""

Key = tuple[str, str]
"""Dataset and id of a clip."""


def labels(folders: Sequence[str]) -> dict[str, list[float]]:
    """Sentiment labels of all splits, by dataset.

    Raises:
        ValueError: no shards there.
    """
    from shards.sample import BadSample

    found: dict[str, list[float]] = {}
    for split in ("train", "valid", "test"):
        for clips in _open(folders, split):
            for index in range(len(clips)):
                try:
                    meta = clips.meta(*clips.locate(index))
                except BadSample:
                    continue
                if clips.task == "sentiment":
                    found.setdefault(meta["dataset"], []).append(float(meta["label"]))
    return found


def frame_strips(
    folders: Sequence[str],
    split: str,
    wanted: Collection[Key],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Key, bytes]:
    """JPEG strips of the wanted clips, those that the shards hold and that decode.

    Args:
        folders: folders of shards.
        split: the clips' split.
        wanted: datasets and ids.
        progress: told how many strips of how many are done.

    Raises:
        ValueError: no shards there.
    """
    from shards.decode import Job, Sample, Settings
    from shards.pool import DecoderPool
    from shards.sample import BadSample

    # Decoders are processes that may be killed: a broken clip may hang one for ever.
    pool = DecoderPool(Settings(frames=FRAMES, frame_size=SIZE, faces=False), workers=2, timeout=TIMEOUT)
    waiting: dict[Key, Future[tuple[Sample, np.ndarray | None]]] = {}
    done: dict[Key, bytes] = {}

    def collect(key: Key) -> None:
        try:
            frames = waiting.pop(key).result()[1]
        except BadSample:
            return
        if frames is not None:
            done[key] = strip(frames)
            progress(len(done), len(wanted))

    try:
        for clips in _open(folders, split):
            for index in range(len(clips)):
                at = clips.locate(index)
                try:
                    meta = clips.meta(*at)
                    key = (meta["dataset"], meta["id"])
                    if key not in wanted or key in done or key in waiting:
                        continue
                    place = clips.place(*at)
                except BadSample:
                    continue
                waiting[key] = pool.submit(Job(members=place.members), place.shard)
                if len(waiting) >= 4:
                    collect(next(iter(waiting)))
        for key in list(waiting):
            collect(key)
    finally:
        pool.close()
    return done


def strip(frames: np.ndarray) -> bytes:
    """(T, 3, H, W) uint8 as one JPEG, T frames side by side."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(frames.transpose(2, 0, 3, 1).reshape(frames.shape[2], -1, 3)))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=72, optimize=True)
    return out.getvalue()


def _open(folders: Sequence[str], split: str) -> list[Any]:
    """The split of each folder that has it.

    Raises:
        ValueError: a folder has no manifest, or a damaged one.
    """
    from shards.dataset import ClipSet
    from shards.manifest import read_manifest

    return [ClipSet(folder, split) for folder in folders if split in read_manifest(folder).splits]
