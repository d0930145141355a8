"""The order is a permutation of every epoch, the same for everyone, and cheap at any size."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.order import Order, mix, mix_all

SIZES = st.lists(st.integers(0, 12), min_size=1, max_size=20).filter(any)


@given(SIZES, st.integers(-5, 2**65), st.integers(1, 8), st.integers(0, 10**6))
def test_an_epoch_visits_each_sample_once(sizes, seed, window, epoch):
    order = Order(sizes, seed, window)
    shards, rows = order.slice(epoch, 0, order.samples)
    assert sorted(zip(shards.tolist(), rows.tolist())) == [(s, r) for s, size in enumerate(sizes) for r in range(size)]


@given(SIZES, st.integers(0, 99), st.integers(1, 5), st.data())
def test_any_slice_and_any_position_agree_with_the_whole(sizes, seed, window, data):
    whole = Order(sizes, seed, window)
    shards, rows = whole.slice(3, 0, whole.samples)
    start = data.draw(st.integers(0, whole.samples))
    stop = data.draw(st.integers(start, whole.samples))
    fresh = Order(sizes, seed, window)
    found = fresh.slice(3, start, stop)
    assert found[0].tolist() == shards[start:stop].tolist() and found[1].tolist() == rows[start:stop].tolist()
    for position in range(start, stop):
        assert Order(sizes, seed, window).at(3, position) == (shards[position], rows[position])


@given(SIZES, st.integers(1, 6))
def test_windows_hold_whole_shards(sizes, window):
    """Memory is that of one window: at any position only its `window` shards are in play."""
    order = Order(sizes, 7, window)
    shards, _ = order.slice(0, 0, order.samples)
    visited = shards.tolist()
    first = {shard: visited.index(shard) for shard in visited}
    last = {shard: len(visited) - 1 - visited[::-1].index(shard) for shard in visited}
    for position in range(len(shards)):
        assert sum(first[s] <= position <= last[s] for s in first) <= window


def test_epochs_and_seeds_differ_and_repeat():
    sizes = [50] * 8
    orders = {
        (seed, epoch): tuple(Order(sizes, seed, 4).slice(epoch, 0, 400)[1].tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    order = Order(sizes, 1, 4)
    assert [tuple(order.slice(epoch, 0, 400)[1].tolist()) for epoch in (2, 0, 2)] == [
        orders[1, 2],
        orders[1, 0],
        orders[1, 2],
    ]


def test_without_shuffling_the_split_is_read_in_its_order():
    order = Order([3, 0, 2], 9, 2, shuffle=False)
    for epoch in (0, 5):
        shards, rows = order.slice(epoch, 0, 5)
        assert list(zip(shards.tolist(), rows.tolist())) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1)]


def test_the_order_never_changes_between_versions():
    """Golden values: a run that resumes under a newer version must find the same samples."""
    assert mix(np.array([0, 1, 2**64 - 1], np.uint64)).tolist() == [
        16294208416658607535,
        10451216379200822465,
        16490336266968443936,
    ]
    assert mix_all(1, 2, 3) == 15020427595393229491
    shards, rows = Order([3, 4, 2], 42, 2).slice(1, 0, 9)
    assert list(zip(shards.tolist(), rows.tolist())) == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 0),
        (1, 3),
        (1, 0),
        (0, 0),
        (0, 2),
        (0, 1),
    ]


def test_every_position_sees_every_sample():
    """A chi-square test over 4,000 epochs of 10 samples: the shuffle is fair within its window."""
    order = Order([4, 6], 0, 2)
    counts = np.zeros((10, 10))
    for epoch in range(4000):
        shards, rows = order.slice(epoch, 0, 10)
        counts[np.arange(10), shards * 4 + rows] += 1
    chi = ((counts - 400) ** 2 / 400).sum()
    assert 40 < chi < 140  # 81 degrees of freedom


@pytest.mark.parametrize(("position", "error"), [(-1, IndexError), (5, IndexError)])
def test_positions_outside_the_epoch(position, error):
    with pytest.raises(error):
        Order([3, 2], 0, 1).at(0, position)


def test_bad_sizes_and_windows():
    with pytest.raises(ValueError, match="negative"):
        Order([1, -1], 0, 1)
    with pytest.raises(ValueError, match="window"):
        Order([1], 0, 0)


def test_a_billion_samples_in_a_million_shards():
    """Goals: position to sample under 100 ms and 200 MB, an epoch's start under 2 s; see launch/bench.py order."""
    sizes = np.full(10**6, 1000)
    tracemalloc.start()
    order = Order(sizes, 1, 16)
    began = time.process_time()
    order.at(0, 5 * 10**8)
    start = time.process_time() - began
    began = time.process_time()
    order.at(0, 123_456_789)
    lookup = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert start < 2 and lookup < 0.1 and peak < 200e6


@settings(max_examples=20)
@given(st.integers(1, 2**63), st.integers(0, 1000))
def test_the_hash_has_no_collisions(key, epoch):
    values = mix(np.arange(5000, dtype=np.uint64) ^ np.uint64(mix_all(key, epoch)))
    assert len(np.unique(values)) == 5000
