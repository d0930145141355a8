"""What a model is fed: one micro-batch of clips as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vadv.models.text import Text


@dataclass(kw_only=True)
class Batch:
    """One micro-batch.

    B clips, T frames of H x W pixels, N patches and one class token of width W. Parts that a task or a
    variant does not need are None. A slot of weight 0 (the short last batch of an epoch, a clip that could not be
    read) holds zeros, is computed like any other and changes no loss and no gradient.
    """

    weight: Tensor
    """(B,) float32: 1 for a clip that counts, 0 for an empty slot."""
    label: Tensor
    """(B,) float32: sentiment in [-3, 3]; (B,) int64: event class, for retrieval."""
    index: Tensor
    """(B,) int64: the clip's number in its split, for objectives with a memory of all clips; 0 in an empty slot."""
    noise: Tensor
    """(B,) int64: key of the clip's random numbers in this step, a function of seed, epoch and sample id."""
    text: Text | None = None
    """The B texts, laid end to end."""
    frames: Tensor | None = None
    """(B, T, 3, H, W) uint8 RGB, resized and cropped, not normalised."""
    visual: Tensor | None = None
    """(B, T, N + 1, W): tokens of the frozen visual tower, in place of `frames` when they come from the cache."""
    faces: Tensor | None = None
    """(B, 64, 8) float32: face-expression log-scores in FER+ order (eq. 1); zeros where no face was found."""
    face_mask: Tensor | None = None
    """(B, 64) bool: True where a face was found."""
    audio: Tensor | None = None
    """(B, Da) float32 audio features (retrieval)."""
    image: Tensor | None = None
    """(B, Dv) float32 visual features (retrieval)."""

    def to(self, device: torch.device | str) -> Batch:
        """The same micro-batch on `device`; copies from pinned memory do not block."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The same micro-batch in page-locked memory, from which a GPU copies by itself."""
        return self.each(Tensor.pin_memory)

    def used_on(self, stream: torch.cuda.Stream) -> None:
        """Tell the allocator that `stream` uses these tensors, which another one has made."""
        self.each(lambda tensor: tensor.record_stream(stream) or tensor)

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same with its tensors changed."""
        changed: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                changed[name] = change(value)
            elif isinstance(value, Text):
                changed[name] = value.each(change)
        return replace(self, **changed)
