"""Which texts share a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

TOKENS = 512
"""Tokens in a batch, padding included. Larger ones were no faster on a CPU, and smaller ones share out better."""
CALL = 32
"""What a call costs beside its tokens, in tokens: texts of unlike length share a batch while padding costs less."""


def buckets(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Row numbers, batch by batch, shortest texts first.

    Args:
        lengths: (n,) tokens per text.

    Yields:
        (B,) int64 row numbers; each row once.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        shortest = int(lengths[order[start]])
        stop, padding = start + 1, 0
        length = shortest
        while stop < len(order):
            longer = int(lengths[order[stop]])
            padding += (longer - length) * (stop - start)
            if padding > CALL or longer * (stop - start + 1) > TOKENS:
                break
            length = longer
            stop += 1
        yield order[start:stop]
        start = stop
