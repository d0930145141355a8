"""Dropout whose mask depends on the sample alone: not on ranks, micro-batches, padding, or torch's generators.

An element's fate is a hash of (the sample's key, the number of the module, token, channel). So a run on two ranks drops
the same elements as a run on one, and a resumed run the same as one that was never stopped.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vadv.models.keyed import keyed_bits


class NoiseKeys:
    """Where the student leaves the keys of the current micro-batch for its dropout modules."""

    def __init__(self) -> None:
        self.value: Tensor | None = None
        """(B,) int64, `Batch.noise`."""


class KeyedDropout(nn.Module):
    """Zero each element of (B, L, W) with probability p, scale the rest by 1 / (1 - p); in evaluation, do nothing."""

    def __init__(self, p: float, number: int, keys: NoiseKeys) -> None:
        """Build.

        Args:
            p: probability of zero.
            number: tells the masks of different modules apart.
            keys: shared by all modules of one model.
        """
        super().__init__()
        self.p = p
        self.number = number
        self.keys = keys

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) → (B, L, W)."""
        if not self.training or self.p == 0:
            return x
        assert self.keys.value is not None, "the student sets the keys before it calls its encoder"
        return torch.where(keep_mask(self.keys.value, self.number, x.shape[1], x.shape[2], self.p), x / (1 - self.p), 0)

    def extra_repr(self) -> str:
        return f"p={self.p}, number={self.number}"


def keep_mask(keys: Tensor, number: int, length: int, width: int, p: float) -> Tensor:
    """Which elements stay.

    Args:
        keys: (B,) int64.
        number: of the module.
        length, width: L, W. The mask of a longer sequence begins with that of a shorter one.
        p: probability of False.

    Returns:
        (B, L, W) bool.
    """
    bits = keyed_bits(keys, number, length * width).view(-1, length, width)
    return bits >= round(p * 2**31)


def replace_dropout(module: nn.Module, p: float, keys: NoiseKeys) -> int:
    """Put a `KeyedDropout` in the place of every `nn.Dropout` inside `module`, numbered in order of their names.

    Returns:
        How many were replaced.
    """
    places = [
        (parent, name)
        for _, parent in sorted(module.named_modules())
        for name, child in parent.named_children()
        if isinstance(child, nn.Dropout)
    ]
    for number, (parent, name) in enumerate(places):
        setattr(parent, name, KeyedDropout(p, number, keys))
    return len(places)
