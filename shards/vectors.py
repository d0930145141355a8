"""The audio and visual vectors of packed clips, read without their videos (retrieval)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shards.dataset import ClipSet
from shards.decode import read_members
from shards.sample import BadSample, parse_array, parse_meta

MODALITIES = ("audio", "visual")


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Clips of a split.

    Attributes:
        ids, datasets, texts: of each clip; texts are the names of classes where the source knows them.
        labels: (n,) int64 class numbers.
        audio, visual: (n, D) float32.
        video: whether the clips have videos.
        bad: number of clips left out because their sample could not be read.
    """

    ids: list[str]
    datasets: list[str]
    texts: list[str]
    labels: np.ndarray
    audio: np.ndarray
    visual: np.ndarray
    video: bool
    bad: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def read_vectors(clips: ClipSet, most: int | None = None) -> Vectors:
    """Vectors of a split.

    Args:
        clips: the split.
        most: read at most so many clips, evenly spread over the split.

    Raises:
        ValueError: clips have no vectors, or vectors of different widths.
    """
    count = len(clips)
    indices = range(count) if most is None or most >= count else np.linspace(0, count - 1, most).round().astype(int)
    metas, rows, videos, bad = [], [], 0, 0
    for index in indices:
        try:
            place = clips.place(*clips.locate(int(index)))
            descriptor, members = place.shard.descriptor, place.members
            missing = [f"{name}.npy" for name in MODALITIES if f"{name}.npy" not in members]
            if missing:
                raise ValueError(
                    f"{clips.folders[0]}: expected vectors with each sample, found no {' and no '.join(missing)} in "
                    f"sample {place.key} of {clips.split}; pack the clips as vegas or sample-events"
                )
            meta = parse_meta(read_members(descriptor, {"json": members["json"]})["json"])
            found = read_members(descriptor, {f"{name}.npy": members[f"{name}.npy"] for name in MODALITIES})
            vectors = [parse_array(found[f"{name}.npy"], f"{name}.npy") for name in MODALITIES]
        except (BadSample, KeyError):
            bad += 1
            continue
        videos += int(meta.get("frames") or 0) > 0
        metas.append(meta)
        rows.append(vectors)
    if not rows:
        raise ValueError(f"{clips.folders[0]}: expected readable clips in {clips.split}, found none of {count}")
    return Vectors(
        ids=[meta["id"] for meta in metas],
        datasets=[meta["dataset"] for meta in metas],
        texts=[meta["text"] for meta in metas],
        labels=np.array([int(meta["label"]) for meta in metas], np.int64),
        audio=_stack([row[0] for row in rows], metas, "audio", clips),
        visual=_stack([row[1] for row in rows], metas, "visual", clips),
        video=videos > 0,
        bad=bad,
    )


def _stack(vectors: Sequence[np.ndarray], metas: Sequence[dict[str, Any]], kind: str, clips: ClipSet) -> np.ndarray:
    width = len(vectors[0])
    for vector, meta in zip(vectors, metas):
        if len(vector) != width:
            raise ValueError(
                f"{', '.join(map(str, clips.folders))}: expected {kind} vectors of one width, found {width} in clip "
                f"{metas[0]['id']} and {len(vector)} in {meta['id']}; pack them with the same features"
            )
    return np.stack(vectors)
