"""The plan's memory against what training really takes: the peak of each rank's resident memory on CPUs.

Each configuration trains three steps on made batches in processes of its own. What a process takes before there is a
model (Python and the libraries) is measured there too and added to the prediction.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

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
"""Ranks and settings of each configuration, besides those of `settings_of`."""


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
        predicted, measured, base = compare(settings_of(changes, options.clip, options.student), world)
        row = Row(f"memory of a rank, {name}", measured / MIB, "MiB", predicted / measured, "prediction / measured")
        row.more = {"predicted MiB": round(predicted / MIB), "of it the process itself": round(base / MIB)}
        rows.append(row)
    return rows


def settings_of(changes: dict[str, Any], clip: str, student: str) -> Config:
    """A configuration with random weights of real proportions."""
    from vadv.config_file import load

    base = {"student.model": student, "student.weights": "random"}
    if changes.get("teacher", ...) is not None:
        base |= {"teacher.clip": clip, "teacher.weights": "random"}
    return load(None, base | changes)


def compare(config: Config, world_size: int) -> tuple[int, int, int]:
    """Predicted and measured peak of the rank that took most, in bytes, and what its process took before."""
    from vadv.training.plan import predict

    base, measured = max(_train(config, world_size), key=lambda found: found[1])
    predicted = predict(config, world_size, TOKENS, buckets_filled_only=True).peak
    return base + predicted, measured, base


def _train(config: Config, world_size: int) -> list[tuple[int, int]]:
    """Three steps; resident memory of each rank before there was a model, and at its peak."""
    context = multiprocessing.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = []
    for rank in range(world_size):
        ours, theirs = context.Pipe()
        ranks.append((ours, context.Process(target=_rank, args=(theirs, config, rank, world_size, port))))
        ranks[-1][1].start()
        theirs.close()
    try:
        return [pipe.recv() for pipe, _ in ranks]
    except EOFError:
        raise ValueError("a rank ended before it had measured; its own message stands above") from None
    finally:
        for _, process in ranks:
            process.join(30)
            process.kill()


def _rank(pipe: Connection, config: Config, rank: int, world_size: int, port: int) -> None:
    os.environ.update(
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "DS_ACCELERATOR": "cpu"}
        | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    )
    import open_clip  # noqa: F401 - what a run has loaded before it builds its model
    import transformers  # noqa: F401

    from vadv.models import VideoAdviser, build_student, build_teacher
    from vadv.objectives import build_objective
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
    batch = made_batch(config, config.train.micro(world_size), TOKENS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here: building has its own
    for _ in range(3):
        set_learning_rate(engine, 1e-6)
        engine.backward(engine(batch)["loss"])
        engine.step()
    pipe.send((base, _resident("VmHWM")))
    world.leave()


def made_batch(config: Config, clips: int, tokens: int) -> Any:
    """A micro-batch of random content in the shapes of `config`."""
    import torch

    from vadv.models.batch import Batch

    generator = torch.Generator().manual_seed(1)
    data, teacher = config.data, config.teacher
    frames = faces = mask = None
    if teacher is not None:
        shape = (clips, data.frames, 3, data.frame_size, data.frame_size)
        frames = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        if teacher.face:
            faces = torch.randn(clips, 64, 8, generator=generator)
            mask = torch.ones(clips, 64, dtype=torch.bool)
    return Batch(
        weight=torch.ones(clips),
        label=torch.randn(clips, generator=generator),
        index=torch.arange(clips) % 2,
        noise=torch.arange(clips),
        input_ids=torch.randint(5, 200, (clips, tokens), generator=generator),
        attention_mask=torch.ones(clips, tokens, dtype=torch.int64),
        frames=frames,
        faces=faces,
        face_mask=mask,
    )


def _resident(kind: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status: expected a line {kind}, found none")
