"""Frozen CLIP beside the trained model: its tokens come from the disk, or from the frames and go to the disk.

The tower leaves the model that DeepSpeed trains. So ranks may encode different numbers of clips, ZeRO-3 has nothing to
gather for it, and the model sees the same thing, `Batch.visual`, whether a clip was found or encoded.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shards.clip import Clip
from shards.dataset import ClipSet
from vadv.config import Config
from vadv.features.fingerprint import fingerprint
from vadv.features.segment import PAGE
from vadv.features.store import FeatureStore
from vadv.models.batch import Batch
from vadv.models.clip import FrozenFrames

WAITING_RECORDS = 8
"""Encoded clips that may wait to be written; more make training wait for the disk, once, in the first epoch."""


def open_cache(module: nn.Module, config: Config, dtype: torch.dtype, device: torch.device) -> FeatureCache | None:
    """Take the frozen tower out of the model, with `teacher.cache_features`; else leave all as it is.

    Args:
        module: teacher and student, before DeepSpeed has it.
        dtype: number format of the run.
        device: where the tower will run.
    """
    if config.teacher is None or not config.teacher.cache_features:
        return None
    teacher: Any = module.teacher
    tower, geometry = teacher.clip, teacher.geometry
    # A run in half precision has nothing more to keep than its own format.
    wanted = getattr(torch, config.teacher.cache_dtype)
    stored = dtype if wanted == torch.float32 else wanted
    key, about = fingerprint(tower, geometry, frames=config.data.frames, computed=dtype, stored=stored, device=device)
    shape = (config.data.frames, geometry.patches + 1, geometry.width)
    del teacher.clip
    return FeatureCache(
        tower.to(device, dtype),
        shape=shape,
        stored=stored,
        device=device,
        store=FeatureStore(
            config.data.cache_folder() / "features",
            key,
            size=-(-_bytes(shape, stored) // PAGE) * PAGE,
            limit=config.teacher.cache_bytes,
            about=about,
        ),
    )


class FeatureCache:
    """The tower, its store, and a thread that writes.

    Args:
        tower: frozen CLIP on `device`.
        shape: (T, N + 1, W) of one clip's tokens.
        stored: their number format on the disk. Tokens that were just encoded pass through it too: a clip has the same
            numbers whether it was found or not.
        device: of the model.
        store: of this tower's key.
    """

    def __init__(
        self,
        tower: FrozenFrames,
        *,
        shape: tuple[int, int, int],
        stored: torch.dtype,
        device: torch.device,
        store: FeatureStore,
    ) -> None:
        self.tower, self.shape, self.stored, self.device, self.store = tower, shape, stored, device, store
        self._bytes = _bytes(shape, stored)
        self._queue: queue.Queue[tuple[bytes, Tensor] | None] = queue.Queue(WAITING_RECORDS)
        self._writer = threading.Thread(target=self._write, name="feature-writer", daemon=True)
        self._writer.start()

    def of(self, clips: ClipSet, seed: int | None = None, views: int = 0) -> SplitFeatures:
        """The features of one split.

        Args:
            seed: of the random frames of a training stream; None for the middle of each segment.
            views: `data.views`, with a seed.
        """
        return SplitFeatures(self, clips, seed, views)

    def find(self, name: bytes) -> Tensor | None:
        """Tokens (T, N + 1, W) of a record, on the CPU; None when there is none, or a damaged one."""
        if name not in self.store:
            return None
        record = torch.empty(self.store.size, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        if not self.store.read(name, record.numpy()):
            return None
        return record[: self._bytes].view(self.stored).view(self.shape)

    def encode(self, frames: Tensor, name: bytes) -> Tensor:
        """Tokens of one clip's frames (T, 3, H, W), and have them stored.

        Clip by clip, so that a clip's numbers do not depend on which others were missing beside it.
        """
        tokens = self.tower.tokens(frames[None])[0].to(self.stored)
        if not self.store.full:
            self._queue.put((name, tokens))
        return tokens

    def close(self) -> None:
        """Write what waits, and close the files."""
        self._queue.put(None)
        self._writer.join()
        self.store.close()

    def _write(self) -> None:
        record = np.zeros(self.store.size, np.uint8)
        while (item := self._queue.get()) is not None:
            name, tokens = item
            if not self.store.full:
                record[: self._bytes] = tokens.cpu().contiguous().flatten().view(torch.uint8).numpy()
                self.store.write(name, record)


class SplitFeatures:
    """Features of one split's clips; a stream asks it, and `fill` puts them into the batch."""

    def __init__(self, cache: FeatureCache, clips: ClipSet, seed: int | None, views: int) -> None:
        self.cache, self.seed, self.views = cache, seed, views
        self._content = _content(clips)

    def __call__(self, dataset: str, id: str, view: int) -> Tensor | None:
        """What is kept of a clip, or None: then the stream decodes its frames. Reads the disk, in the stream's thread."""
        return self.cache.find(self.name(dataset, id, view))

    def name(self, dataset: str, id: str, view: int) -> bytes:
        """Name of the record: the data it was made of, the sample, and which of its frames."""
        sampling = "centres" if self.seed is None else f"random {self.seed} {view}"
        text = json.dumps([self._content.get(dataset), dataset, id, sampling]).encode()
        return hashlib.blake2b(text, digest_size=16).digest()

    def fill(self, batch: Batch, clips: Sequence[Clip], epoch: int = 0) -> Batch:
        """The same micro-batch with tokens in place of frames.

        Args:
            batch: on the device of the model.
            clips: what it was made of, in order.
            epoch: decides the view, as in the stream.
        """
        cache, view = self.cache, epoch % self.views if self.seed is not None else 0
        visual = torch.zeros(len(clips), *cache.shape, dtype=cache.stored, device=cache.device)
        for row, clip in enumerate(clips):
            if clip.features is not None:
                visual[row].copy_(clip.features, non_blocking=True)
            elif clip.frames is not None:
                assert batch.frames is not None
                visual[row] = cache.encode(batch.frames[row], self.name(clip.dataset, clip.id, view))
        return replace(batch, frames=None, visual=visual)


def _content(clips: ClipSet) -> Mapping[str, str]:
    """By dataset, what its clips in this split were read from: clips packed anew are other clips."""
    sums: dict[str, list[str]] = {}
    for manifest in clips.manifests:
        sums.setdefault(manifest.dataset, []).extend(s.sha256 for s in manifest.splits[clips.split].shards)
    return {name: hashlib.sha256("".join(parts).encode()).hexdigest() for name, parts in sums.items()}


def _bytes(shape: tuple[int, int, int], dtype: torch.dtype) -> int:
    return shape[0] * shape[1] * shape[2] * dtype.itemsize
