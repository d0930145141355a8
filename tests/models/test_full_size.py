"""The paper's sizes on a CPU: ViT-L/14 and RoBERTa-Large with random weights take two optimizer steps in float32."""

from __future__ import annotations

import json
import os
import resource
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import torch.multiprocessing as mp

from vadv import config
from vadv.models import VideoAdviser, build_student, build_teacher
from vadv.models.batch import Batch
from vadv.models.text import lay
from vadv.objectives.build import build_objective

GIB = 2**30
LIMIT = 20 * GIB


def two_steps(rank: int, folder: str) -> None:
    """Micro-batch 1, accumulation 1; leaves losses, seconds and this process's peak memory."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    from vadv.training.distributed import join
    from vadv.training.engine import build_engine, set_learning_rate

    world = join(timeout=600)
    settings = config.Config()
    assert settings.teacher is not None
    settings = replace(
        settings,
        teacher=replace(settings.teacher, weights="random"),
        student=replace(settings.student, weights="random"),
        train=replace(settings.train, batch_size=1),
    )
    assert settings.teacher is not None
    started = time.monotonic()
    student, tokenizer = build_student(settings.student, 1)
    teacher = build_teacher(settings.teacher, 1)
    engine = build_engine(
        VideoAdviser(teacher, student, build_objective(settings, teacher, student, 2)), settings, world
    )
    built = time.monotonic() - started
    text = tokenizer(["a film of a hundred tokens " * 20], truncation=True, max_length=100)
    batch = Batch(
        weight=torch.ones(1),
        label=torch.tensor([2.0]),
        index=torch.zeros(1, dtype=torch.int64),
        noise=torch.ones(1, dtype=torch.int64),
        text=lay(text["input_ids"]),
        frames=torch.randint(0, 256, (1, 8, 3, 224, 224), dtype=torch.uint8),
        faces=torch.randn(1, 64, 8),
        face_mask=torch.ones(1, 64, dtype=torch.bool),
    )
    losses, seconds = [], []
    for _ in range(2):
        started = time.monotonic()
        set_learning_rate(engine, settings.train.lr)
        out = engine(batch)
        engine.backward(out["loss"])
        engine.step()
        losses.append(float(out["loss"].detach()))
        seconds.append(time.monotonic() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    Path(folder, "found.json").write_text(
        json.dumps({"losses": losses, "seconds": seconds, "built": built, "peak": peak})
    )
    world.leave()


@pytest.mark.slow
def test_the_papers_sizes_take_two_steps(tmp_path: Path) -> None:
    if psutil.virtual_memory().available < 15 * GIB:
        pytest.skip("less than 15 GiB of free memory")
    mp.spawn(two_steps, (str(tmp_path),), nprocs=1)
    found = json.loads((tmp_path / "found.json").read_text())
    print(found)
    assert found["losses"][1] < found["losses"][0]
    assert found["peak"] < LIMIT, f"{found['peak'] / GIB:.1f} GiB"
