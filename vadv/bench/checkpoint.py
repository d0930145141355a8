"""What a checkpoint costs: bytes, the time that training waits for it, and the steps beside the writing."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from vadv.bench.made import alone, config_of
from vadv.bench.step import Bench
from vadv.bench.table import Row

GIB = 2**30
EPOCH = 321
"""Steps of an epoch of MOSI at batch 4 (1,284 clips): the default interval between checkpoints."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--clip", default="ViT-B-32", help="open_clip model of the teacher (default: %(default)s)")
    parser.add_argument("--student", default="roberta-base", help="student's encoder (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=2, help="clips per step (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=5, help="steps to time without a checkpoint (default: %(default)s)"
    )
    parser.add_argument("--interval", type=int, default=EPOCH, help="steps between checkpoints (default: %(default)s)")
    parser.add_argument("--deepspeed", default="configs/deepspeed/zero1.json", help="preset (default: %(default)s)")
    parser.add_argument(
        "--folder", help="where to write, a disk of the kind that runs use (default: a temporary folder)"
    )


def run(options: argparse.Namespace) -> list[Row]:
    """Take steps, save, take steps while it is written."""
    alone()
    changes = {"train.batch_size": options.clips, "deepspeed": options.deepspeed}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bench = Bench(config_of(changes, options.clip, options.student), Path(folder), plain=False)
        try:
            return _measure(bench, Path(folder), options.steps, options.interval)
        finally:
            bench.close()


def _measure(bench: Bench, folder: Path, steps: int, interval: int) -> list[Row]:
    from vadv.training import checkpoints
    from vadv.training.engine import deepspeed_settings, zero_stage
    from vadv.training.saving import Saver

    saver = Saver(bench.engine, folder / "checkpoints", bench.world, 1, zero_stage(deepspeed_settings(bench.config, 1)))
    bench.ours()
    alone_seconds = statistics.median(_timed(bench.ours) for _ in range(steps))
    began = time.perf_counter()
    failure = saver.begin(asdict(bench.stepper.state))
    copied = time.perf_counter() - began
    beside: list[float] = []
    while saver.writing:
        beside.append(_timed(bench.ours))
    failure = failure or saver.finish()
    done = time.perf_counter() - began
    if failure is not None:
        raise ValueError(failure)
    found, _ = checkpoints.newest(folder / "checkpoints")
    assert found is not None
    size = sum(path.stat().st_size for path in found.path.rglob("*") if path.is_file())
    frozen = sum(p.numel() * p.element_size() for p in bench.task.module.parameters() if not p.requires_grad)
    share = saver.stall / (saver.stall + interval * alone_seconds)
    rows = [
        Row("checkpoint: bytes", size / GIB, "GiB", more={"frozen weights, not saved, GiB": round(frozen / GIB, 2)}),
        Row("checkpoint: training waits", saver.stall, "s", more={"of it copying": round(copied, 2)}),
        Row(f"checkpoint: share of {interval} steps", 100 * share, "%", more={"a step, s": round(alone_seconds, 3)}),
        Row("checkpoint: until it is complete", done, "s", more={"GiB/s": round(size / GIB / done, 2)}),
    ]
    if beside:
        rows.append(Row("checkpoint: a step beside the writing", statistics.median(beside), "s"))
        rows[-1].ratio, rows[-1].to = alone_seconds / statistics.median(beside), "a step without"
    return rows


def _timed(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began
