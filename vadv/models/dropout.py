"""Dropout whose mask depends on the sample alone: not on ranks, micro-batches, padding, or torch's generators.

An element's fate is a hash of (the sample's key, the number of the module, the token's place in its text, channel). So a run on two ranks drops
the same elements as a run on one, and a resumed run the same as one that was never stopped.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vadv.models.keyed import keyed_bits


class NoiseKeys:
    """Where the student leaves whose the current tokens are, for its dropout modules."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        """(R, L) int64, `Batch.noise` of each token's sample."""
        self.places: Tensor | None = None
        """(R, L) int64, the token's place in its text."""


class KeyedDropout(nn.Module):
    """Zero each element of (R, L, W) with probability p, scale the rest by 1 / (1 - p); in evaluation, do nothing."""

    def __init__(self, p: float, number: int, noise: NoiseKeys) -> None:
        """Build.

        Args:
            p: probability of zero.
            number: tells the masks of different modules apart.
            noise: shared by all modules of one model.
        """
        super().__init__()
        self.p = p
        self.number = number
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        """(R, L, W) → (R, L, W)."""
        if not self.training or self.p == 0:
            return x
        keys, places = self.noise.keys, self.noise.places
        assert keys is not None and places is not None, "the student sets them before it calls its encoder"
        return torch.where(keep_mask(keys, places, self.number, x.shape[2], self.p), x / (1 - self.p), 0)

    def extra_repr(self) -> str:
        return f"p={self.p}, number={self.number}"


def keep_mask(keys: Tensor, places: Tensor, number: int, width: int, p: float) -> Tensor:
    """Which elements stay.

    Args:
        keys: (R, L) int64, of each token's sample.
        places: (R, L) int64, the token's place in its text.
        number: of the module.
        width: W.
        p: probability of False.

    Returns:
        (R, L, W) bool.
    """
    bits = keyed_bits(keys.flatten(), number, width, start=places.flatten() * width)
    return bits.view(*keys.shape, width) >= round(p * 2**31)


def replace_dropout(module: nn.Module, p: float, noise: NoiseKeys) -> int:
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
        setattr(parent, name, KeyedDropout(p, number, noise))
    return len(places)
