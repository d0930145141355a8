"""The order of samples: a pure function of (seed, epoch), the same for every number of ranks and workers.

An epoch visits each sample once. Shards are permuted; consecutive runs of `window` permuted shards form a window; the
samples of a window are permuted among themselves. A position (samples consumed in this epoch) therefore is all there
is to remember of an epoch, and finding its sample costs one search and one sort within a window.

Permutations are sorts by a hash. The hash is a bijection of 64-bit integers (the finalizer of splitmix64, Steele, Lea
and Flood 2014), so that no two samples of one epoch have equal hashes and any sorting algorithm gives the same order:
nothing depends on the version of a random number generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK = 0xFFFFFFFFFFFFFFFF


def mix(values: np.ndarray) -> np.ndarray:
    """splitmix64's finalizer: a bijection of uint64, element by element; `values` is uint64 of any shape."""
    with np.errstate(over="ignore"):
        values = values + _GOLDEN
        values ^= values >> np.uint64(30)
        values *= np.uint64(0xBF58476D1CE4E5B9)
        values ^= values >> np.uint64(27)
        values *= np.uint64(0x94D049BB133111EB)
        values ^= values >> np.uint64(31)
    return values


def mix_all(*parts: int) -> int:
    """One 64-bit hash of several integers (taken modulo 2**64), order counts."""
    state = np.zeros(1, np.uint64)
    for part in parts:
        state = mix(state ^ np.uint64(part & _MASK))
    return int(state[0])


class Order:
    """Which sample stands at which position of an epoch.

    Attributes:
        samples: number of samples of an epoch.
    """

    def __init__(self, sizes: Sequence[int] | np.ndarray, seed: int, window: int, shuffle: bool = True) -> None:
        """Prepare the order; costs O(number of shards).

        Args:
            sizes: samples per shard, in manifest order; several folders are simply one longer list.
            seed: the run's seed.
            window: shards whose samples are shuffled together, at least 1.
            shuffle: False visits shard after shard, row after row, in every epoch.

        Raises:
            ValueError: a negative size, or a window below 1.
        """
        self.sizes = np.asarray(sizes, dtype=np.int64)
        if self.sizes.ndim != 1 or (self.sizes < 0).any():
            raise ValueError("order: expected a list of shard sizes of 0 or more, found a negative one or a table")
        if window < 1:
            raise ValueError(f"order: expected a window of at least 1 shard, found {window}")
        self.seed, self.window, self.shuffle = seed, window, shuffle
        self.samples = int(self.sizes.sum())
        self._epoch: int | None = None
        self._shards = np.empty(0, np.int64)
        self._ends = np.empty(0, np.int64)
        self._window = -1
        self._sorted: tuple[np.ndarray, np.ndarray] = (self._shards, self._shards)

    def at(self, epoch: int, position: int) -> tuple[int, int]:
        """(shard, row) of the sample at `position` of `epoch`.

        Raises:
            IndexError: position is not in [0, samples).
        """
        if not 0 <= position < self.samples:
            raise IndexError(f"position {position} of an epoch of {self.samples} samples")
        shards, rows = self.slice(epoch, position, position + 1)
        return int(shards[0]), int(rows[0])

    def slice(self, epoch: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Shards and rows, two int64 arrays of one entry each for positions start to stop (at most `samples`)."""
        stop = min(stop, self.samples)
        if not 0 <= start <= stop:
            raise IndexError(f"positions {start} to {stop} of an epoch of {self.samples} samples")
        self._enter(epoch)
        parts = []
        while start < stop:
            # Windows that hold no sample share their end with the one before: "right" passes over them.
            window = int(np.searchsorted(self._ends, start, side="right"))
            first = int(self._ends[window - 1]) if window else 0
            end = min(stop, int(self._ends[window]))
            shards, rows = self._permuted(window)
            parts.append((shards[start - first : end - first], rows[start - first : end - first]))
            start = end
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def shards_from(self, epoch: int, position: int, count: int) -> np.ndarray:
        """Up to `count` shards, in the order their windows are visited, from the window of `position` on."""
        self._enter(epoch)
        window = int(np.searchsorted(self._ends, position, side="right"))
        first = window * self.window
        return self._shards[first : first + count]

    def _enter(self, epoch: int) -> None:
        """Permute the shards for `epoch`, and find where each window ends."""
        epoch = epoch if self.shuffle else 0
        if self._epoch == epoch:
            return
        shards = np.arange(len(self.sizes), dtype=np.int64)
        if self.shuffle:
            shards = np.argsort(mix(shards.astype(np.uint64) ^ np.uint64(mix_all(self.seed, epoch, 1))))
        ends = np.cumsum(self.sizes[shards])
        last = np.arange(self.window - 1, len(ends), self.window)
        if len(ends) % self.window:
            last = np.append(last, len(ends) - 1)
        self._shards, self._ends, self._epoch, self._window = shards, ends[last], epoch, -1

    def _permuted(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Shards and rows of all samples of one window, in visiting order; the last window is kept."""
        if window != self._window:
            members = self._shards[window * self.window : (window + 1) * self.window]
            sizes = self.sizes[members]
            shards = np.repeat(members, sizes)
            rows = np.arange(len(shards), dtype=np.int64) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            if self.shuffle:
                key = np.uint64(mix_all(self.seed, int(self._epoch or 0), 2, window))
                permutation = np.argsort(mix(np.arange(len(shards), dtype=np.uint64) ^ key))
                shards, rows = shards[permutation], rows[permutation]
            self._sorted, self._window = (shards, rows), window
        return self._sorted
