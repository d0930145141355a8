"""Random numbers as a pure function of a key and a position: a counter-based hash in plain tensor arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor


def keyed_bits(keys: Tensor, number: int, count: int, start: Tensor | None = None) -> Tensor:
    """Draw `count` numbers per key.

    Args:
        keys: (B,) int64, not negative.
        number: which of a key's streams; each user has its own.
        count: n. A shorter stream is the beginning of a longer one.
        start: (B,) int64, where in the stream each key begins; at its beginning unless told.

    Returns:
        (B, n) int32, uniform on 0 … 2^31 - 1.
    """
    # 32-bit integers: half the memory traffic of 64. Both halves of the key enter, one before and one after a round.
    low, high = (keys & 0x7FFFFFFF).int(), ((keys >> 31) & 0x7FFFFFFF).int()
    first = _mix(low ^ _wrap(number * 0x9E3779B1))
    second = _mix(high + _wrap(number * 0x85EBCA77 + 1))
    position = torch.arange(count, dtype=torch.int32, device=keys.device)
    positions = position if start is None else position + start.int()[:, None]
    x = _mix(positions * _wrap(0x9E3779B1) + first[:, None])
    return _mix(x ^ second[:, None]) & 0x7FFFFFFF


def _mix(x: Tensor) -> Tensor:
    """The finaliser of MurmurHash3 on int32, whose arithmetic shifts are masked into logical ones."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * _wrap(0x85EBCA6B)
    x = x ^ ((x >> 13) & 0x7FFFF)
    x = x * _wrap(0xC2B2AE35)
    return x ^ ((x >> 16) & 0xFFFF)


def _wrap(value: int) -> int:
    """The 32-bit two's complement of an integer."""
    value &= 0xFFFFFFFF
    return value - 2**32 if value >= 2**31 else value
