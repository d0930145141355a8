"""The plan's memory against what training really takes: the peak of each rank's resident memory on CPUs.

Each configuration trains three steps on made batches in processes of its own. What a process takes before there is a
model (Python and the libraries) is measured there too and added to the prediction. glibc is told to give freed blocks
back (MALLOC_MMAP_THRESHOLD_): what it would otherwise keep for later is not what the model needs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vadv.bench.made import config_of, made_batch
from vadv.bench.ranks import on_ranks
from vadv.bench.table import Row
from vadv.config import Config

MIB = 2**20
TOKENS = 100
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "ZeRO-0": (1, {"deepspeed": "configs/deepspeed/zero0.json", "train.batch_size": 2}),
    "ZeRO-1": (1, {"deepspeed": "configs/deepspeed/zero1.json", "train.batch_size": 4}),
    "ZeRO-2, 2 ranks": (2, {"deepspeed": "configs/deepspeed/zero2.json", "train.batch_size": 4}),
    "ZeRO-3, 2 ranks": (2, {"deepspeed": "configs/deepspeed/zero3.json", "train.batch_size": 2}),
    "ZeRO-1, student alone": (1, {"teacher": None, "train.batch_size": 16}),
}
"""Ranks and settings of each configuration, besides those of `config_of`."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--clip", default="ViT-B-32", help="open_clip model of the teacher (default: %(default)s)")
    parser.add_argument("--student", default="roberta-base", help="student's encoder (default: %(default)s)")
    parser.add_argument("--case", choices=CASES, action="append", help="one configuration, several times for several")


def run(options: argparse.Namespace) -> list[Row]:
    """Predict and measure."""
    rows = []
    for name in options.case or CASES:
        world, changes = CASES[name]
        predicted, measured, base = compare(config_of(changes, options.clip, options.student), world)
        row = Row(f"memory of a rank, {name}", measured / MIB, "MiB", predicted / measured, "prediction / measured")
        row.more = {"predicted MiB": round(predicted / MIB), "of it the process itself": round(base / MIB)}
        rows.append(row)
    return rows


def compare(config: Config, world_size: int) -> tuple[int, int, int]:
    """Predicted and measured peak of the rank that took most, in bytes, and what its process took before."""
    from vadv.training.plan import predict

    found = on_ranks(world_size, _train, config, environment={"MALLOC_MMAP_THRESHOLD_": "262144"})
    base, measured = max(found, key=lambda pair: pair[1])
    predicted = predict(config, world_size, TOKENS, on_cpu=True).peak
    return base + predicted, measured, base


def _train(config: Config) -> tuple[int, int]:
    """Three steps of this rank; its resident memory before there was a model, and at its peak."""
    import open_clip  # noqa: F401 - what a run has loaded before it builds its model
    import transformers  # noqa: F401

    from vadv.models import VideoAdviser, build_student, build_teacher
    from vadv.objectives.build import build_objective
    from vadv.training.distributed import join
    from vadv.training.engine import build_engine, set_learning_rate
    from vadv.training.gather import gather

    world = join(600)
    base = _resident("VmRSS")
    student, _ = build_student(config.student, 1)
    teacher = build_teacher(config.teacher, 1) if config.teacher is not None else None
    engine = build_engine(
        VideoAdviser(teacher, student, build_objective(config, teacher, student, 2, gather)), config, world
    )
    batch = made_batch(config, config.train.micro(world.size), TOKENS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here: building has its own
    for _ in range(3):
        set_learning_rate(engine, 1e-6)
        engine.backward(engine(batch)["loss"])
        engine.step()
    peak = _resident("VmHWM")
    world.leave()
    return base, peak


def _resident(kind: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status: expected a line {kind}, found none")
