"""Finding a sample by its position, at the size of the largest data set we think of.

The machine's own memory and time only: a billion samples need no files to be ordered.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc

import numpy as np

from shards.order import Order
from vadv.bench.table import Row


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--shards", type=int, default=10**6, help="shards (default: 1,000,000)")
    parser.add_argument("--samples", type=int, default=10**9, help="samples in all (default: 1,000,000,000)")
    parser.add_argument("--window", type=int, default=16, help="shards shuffled together (default: 16)")


def run(options: argparse.Namespace) -> list[Row]:
    """Measure.

    Returns:
        the start of an epoch and one sample's place in it, later lookups, a step's slice, and the peak of memory.
    """
    if options.shards < 1 or options.samples < options.shards:
        raise ValueError(f"--samples: expected at least one per shard, found {options.samples} in {options.shards}")
    sizes = np.full(options.shards, options.samples // options.shards, np.int64)
    sizes[: options.samples % options.shards] += 1
    positions = np.random.default_rng(0).integers(0, options.samples, 200).tolist()

    order = Order(sizes, seed=1, window=options.window)
    cold = []
    for epoch in range(5):
        began = time.perf_counter()
        order.at(epoch, positions[epoch])
        cold.append(time.perf_counter() - began)
    later = []
    for position in positions:
        began = time.perf_counter()
        order.at(4, position)
        later.append(time.perf_counter() - began)
    began = time.perf_counter()
    order.slice(4, options.samples // 2, min(options.samples, options.samples // 2 + 4096))
    slice_seconds = time.perf_counter() - began

    tracemalloc.start()
    fresh = Order(sizes.copy(), seed=1, window=options.window)
    fresh.at(0, positions[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    scale = f"{options.samples:.0e} samples in {options.shards:.0e} shards"
    return [
        Row("epoch start and first lookup", min(cold) * 1e3, "ms", 2.0 / max(cold), "goal: 2 s", {"of": scale}),
        Row("position to sample, another window", max(later) * 1e3, "ms (worst)", 0.1 / max(later), "goal: 100 ms"),
        Row("position to sample, another window", float(np.median(later)) * 1e3, "ms (median)"),
        Row("4,096 positions in a row", slice_seconds * 1e3, "ms"),
        Row("peak memory", peak / 1e6, "MB", 200e6 / peak, "goal: 200 MB"),
    ]
