"""The files of the feature cache: whole or absent, shared, bounded."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from vadv.features.room import IN_USE
from vadv.features.segment import ENTRY_BYTES, PAGE, checksum
from vadv.features.store import FeatureStore

SIZE = 3 * PAGE


def opened(root: Path, key: str = "key", limit: int = 2**30, size: int = SIZE) -> FeatureStore:
    return FeatureStore(root, key, size, limit, {"what": "a test"})


def name(number: int) -> bytes:
    return number.to_bytes(16, "little")


def record(number: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, size, np.uint8)


def found(store: FeatureStore, number: int) -> np.ndarray | None:
    out = np.empty(store.size, np.uint8)
    return out if store.read(name(number), out) else None


def holds(store: FeatureStore, numbers: range) -> bool:
    return all((got := found(store, n)) is not None and np.array_equal(got, record(n)) for n in numbers)


def used(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and path.name != "about.json")


def test_what_was_written_is_read_at_once_and_by_the_next_process(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert found(store, 1) is None
    assert all(store.write(name(n), record(n)) for n in range(5))
    assert store.write(name(3), record(99)), "it is there"
    assert holds(store, range(5))
    store.close()
    assert (tmp_path / "key" / "000000.dat").stat().st_size == 5 * SIZE, "room that was not used is given back"
    again = opened(tmp_path)
    assert holds(again, range(5)) and found(again, 5) is None
    again.close()


def test_other_processes_see_what_is_added_and_writers_do_not_meet(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    assert one.write(name(1), record(1)) and two.write(name(2), record(2)) and one.write(name(3), record(3))
    for store in (one, two):
        store.refresh()
        assert holds(store, range(1, 4))
    assert len(list((tmp_path / "key").glob("*.dat"))) == 2
    one.close(), two.close()
    three = opened(tmp_path)
    assert three.write(name(4), record(4)) and len(list((tmp_path / "key").glob("*.dat"))) == 2, "a free pair goes on"
    assert holds(three, range(1, 5))
    three.close()


def _write_for_ever(root: Path, first: int) -> None:
    store = opened(root)
    for number in range(first, first + 10**6):
        store.write(name(number), record(number))


def test_writers_that_are_killed_leave_whole_records_only(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_for_ever, args=(tmp_path, first), daemon=True) for first in (0, 10**6)]
    for writer in writers:
        writer.start()
    reader = opened(tmp_path)
    while not {name(40), name(10**6 + 40)} <= set(reader._places):
        assert all(writer.is_alive() for writer in writers)
        reader.refresh()
    for writer in writers:
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
    after = opened(tmp_path)
    numbers = [int.from_bytes(found, "little") for found in after._places]
    assert len(numbers) >= 80 and all(np.array_equal(found(after, n), record(n)) for n in numbers)
    assert after.write(name(5 * 10**6), record(7)), "and their pairs are free again"
    assert len(list((tmp_path / "key").glob("*.idx"))) == 2
    reader.close(), after.close()


def test_torn_and_damaged_records_are_written_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for n in range(6):
        store.write(name(n), record(n))
    store.close()
    data, index = tmp_path / "key" / "000000.dat", tmp_path / "key" / "000000.idx"
    content = bytearray(data.read_bytes())
    content[2 * SIZE + 100] ^= 1  # a flipped bit
    content[3 * SIZE : 3 * SIZE + PAGE] = bytes(PAGE)  # a page that was never written
    content[4 * SIZE : 4 * SIZE + 2 * PAGE] = content[4 * SIZE + PAGE :][:PAGE] + content[4 * SIZE :][:PAGE]  # swapped
    data.write_bytes(content[: 5 * SIZE + PAGE])  # the last is cut short
    with index.open("ab") as file:
        file.write(b"half an entry")
    again = opened(tmp_path)
    assert holds(again, range(2)) and all(found(again, n) is None for n in range(2, 6))
    assert all(again.write(name(n), record(n)) for n in range(2, 6)) and holds(again, range(6))
    again.close()
    after = opened(tmp_path)
    assert holds(after, range(6)), "damaged records are forgotten for good"
    assert index.stat().st_size % ENTRY_BYTES == 0
    after.close()


def test_a_pair_without_its_records_is_no_obstacle(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write(name(1), record(1))
    store.close()
    (tmp_path / "key" / "000000.dat").unlink()
    again = opened(tmp_path)
    assert found(again, 1) is None and again.write(name(1), record(1)) and holds(again, range(1, 2))
    again.close()


def test_no_more_bytes_than_allowed_and_the_run_goes_on(tmp_path: Path) -> None:
    limit = 4 * (SIZE + ENTRY_BYTES) + 100
    store = opened(tmp_path, limit=limit)
    assert [store.write(name(n), record(n)) for n in range(7)] == [True] * 4 + [False] * 3
    assert store.full and holds(store, range(4)) and used(tmp_path) <= limit
    store.close()


def test_unused_keys_make_way_the_oldest_first_and_open_ones_stay(tmp_path: Path) -> None:
    limit = 6 * (SIZE + ENTRY_BYTES) + 1000
    for age, key in ((300, "old"), (200, "older-but-open"), (100, "young")):
        store = opened(tmp_path, key)
        assert store.write(name(1), record(1)) and store.write(name(2), record(2))
        store.close()
        os.utime(tmp_path / key / IN_USE, (1e9 - age, 1e9 - age))
    held = opened(tmp_path, "older-but-open")
    (tmp_path / ".gone-left").mkdir()
    new = opened(tmp_path, "new", limit=limit)
    assert [new.write(name(n), record(n)) for n in range(1, 6)] == [True] * 4 + [False]
    assert used(tmp_path) <= limit
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"older-but-open", "new"}
    assert holds(held, range(1, 3))
    held.close(), new.close()


def test_a_full_disk_ends_storing_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(28, "No space left on device")

    store = opened(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert not store.write(name(1), record(1)) and store.full
    assert not store.write(name(2), record(2))
    store.close()


def test_the_checksum_sees_every_bit_and_the_order_of_pages() -> None:
    one = record(1)
    for byte in (0, 1, PAGE - 1, PAGE, SIZE - 1):
        other = one.copy()
        other[byte] ^= 0x80
        assert checksum(other) != checksum(one)
    assert checksum(np.concatenate([one[PAGE:], one[:PAGE]])) != checksum(one)
