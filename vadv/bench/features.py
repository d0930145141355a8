"""The cache of frozen features: reading it against the disk, and epochs with it against epochs without.

Records have the size of the paper's ViT-L/14 (8 frames, 257 tokens, 1,024 channels, float32: 8.4 MB). The disk's own speed
is that of a plain file of the same bytes, whose blocks of the same size are read into one buffer in the same shuffled
order (and, beside it, from end to end, which the kernel reads ahead). Both are read once with the kernel's page cache
emptied of them and once from it, in turn, and the quickest of the repeats counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vadv.bench.made import alone, config_of, made_clips
from vadv.bench.step import Bench
from vadv.bench.table import Row

if TYPE_CHECKING:
    from shards.clip import Clip

GB = 10**9
TOKENS = (8, 257, 1024)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--records", type=int, default=128, help="records of the cache to read (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="times to read them (default: %(default)s)")
    parser.add_argument("--folder", help="on the disk to measure (default: a temporary folder)")
    parser.add_argument(
        "--clip", default="ViT-L-14-quickgelu", help="open_clip model of the epochs (default: %(default)s)"
    )
    parser.add_argument("--student", default="roberta-large", help="student of the epochs (default: %(default)s)")
    parser.add_argument(
        "--clips", type=int, default=4, help="clips of an epoch of one step (default: %(default)s, the paper's batch)"
    )
    parser.add_argument("--deepspeed", default="configs/deepspeed/zero1.json", help="preset (default: %(default)s)")


def run(options: argparse.Namespace) -> list[Row]:
    """Measure reading, then steps."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        return [*_reading(Path(folder), options.records, options.repeats), *_epochs(Path(folder), options)]


def _reading(folder: Path, records: int, repeats: int) -> list[Row]:
    from vadv.features.segment import PAGE
    from vadv.features.store import FeatureStore

    size = -(-int(np.prod(TOKENS)) * 4 // PAGE) * PAGE
    block = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    plain = folder / "plain"
    store = FeatureStore(folder / "features", "bench", size, 2**60, {})
    began = time.perf_counter()
    with plain.open("wb") as file:
        for _ in range(records):
            file.write(block.data)
        os.fsync(file.fileno())
    written = time.perf_counter() - began
    began = time.perf_counter()
    for number in range(records):
        store.write(number.to_bytes(16, "little"), block)
    os.sync()
    stored = time.perf_counter() - began
    data = folder / "features" / "bench" / "000000.dat"
    out = np.empty(size, np.uint8)
    order = np.random.default_rng(2).permutation(records).tolist()  # as a shuffled epoch reads

    def read_plain(numbers: Iterable[int]) -> None:
        with plain.open("rb") as file:
            for number in numbers:
                assert os.preadv(file.fileno(), [out.data], number * size) == size

    def read_store() -> None:
        for number in order:
            assert store.read(number.to_bytes(16, "little"), out)

    rows = [_rate("features: writing", records * size, stored, written, "a plain file")]
    for where, cold in (("disk", True), ("page cache", False)):
        raw = cached = straight = float("inf")
        for _ in range(repeats):
            raw = min(raw, _timed(lambda: read_plain(order), [plain] if cold else []))
            straight = min(straight, _timed(lambda: read_plain(range(records)), [plain] if cold else []))
            cached = min(cached, _timed(read_store, [data] if cold else []))
        rows.append(_rate(f"features: reading from the {where}", records * size, cached, raw, "a plain file"))
        rows[-1].more["end to end, GB/s"] = round(records * size / straight / GB, 2)
    store.close()
    return rows


def _timed(read: Callable[[], None], cold: list[Path]) -> float:
    for path in cold:
        with path.open("rb") as file:
            os.fdatasync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    read()
    return time.perf_counter() - began


def _rate(what: str, size: int, seconds: float, limit: float, to: str) -> Row:
    return Row(what, size / seconds / GB, "GB/s", limit / seconds, to, {"limit, GB/s": round(size / limit / GB, 2)})


def _epochs(folder: Path, options: argparse.Namespace) -> list[Row]:
    """A step without the cache, the first with it, and all later ones: an epoch is many such steps.

    Decoding is in none of them: it runs beside the model, and later epochs have none.
    """
    alone()
    changes = {
        "train.batch_size": options.clips,
        "data.views": 1,
        "data.cache_dir": str(folder / "cache"),
        "teacher.cache_features": True,
        "deepspeed": options.deepspeed,
    }
    bench = Bench(config_of(changes, options.clip, options.student), folder, plain=False)
    try:
        clips = made_clips(bench.config, options.clips)
        assert bench.cache is not None and bench.stepper.features is not None
        bench.cache.store.full = True  # nothing is stored: the same work as without a cache
        bench.ours()  # allocates the optimizer's states
        without = _epoch(bench, clips)
        bench.cache.store.full = False
        first, second, third = (_epoch(bench, clips) for _ in range(3))
        later = min(second, third)
    finally:
        bench.close()
    names = f"{options.clip}, {options.student}, {options.clips} clips"
    return [
        Row(f"features: epoch without the cache ({names})", without, "s"),
        Row("features: first epoch with it", first, "s", without / first, "epoch without"),
        Row("features: later epochs", later, "s", without / later, "epoch without"),
        Row("features: two epochs in all", first + later, "s", 2 * without / (first + later), "two epochs without"),
    ]


def _epoch(bench: Bench, clips: list[Clip]) -> float:
    """Seconds of a step; what a clip has in the cache is read as the stream would."""
    features = bench.stepper.features
    assert features is not None
    began = time.perf_counter()
    found = [features(clip.dataset, clip.id, 0) for clip in clips]
    bench.ours(
        [replace(c, features=f, frames=c.frames if f is None else None) for c, f in zip(clips, found, strict=True)]
    )
    return time.perf_counter() - began
