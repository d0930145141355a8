"""Under the bf16 and fp16 presets the losses follow those of float32, and stay float32 themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from vadv import config
from vadv.models import VideoAdviser, build_student, build_teacher
from vadv.models.batch import Batch
from vadv.objectives.build import build_objective

STEPS = 20
TOLERANCE = 0.08
"""Largest difference of any step's loss, relative to float32's at that step. Measured for bf16 on a CPU: at most .01 in
the first ten steps, .041 at the end, when the loss has come down to an eighth."""


def follow(rank: int, settings: config.Config, batch: Batch, folder: str, presets: list[str]) -> None:
    """Train on one batch under each preset; leaves the losses and the formats of everything that is returned."""
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    from vadv.training.distributed import join
    from vadv.training.engine import build_engine, set_learning_rate

    world = join(timeout=60)
    batch = batch.to(world.device)
    found = {}
    for preset in presets:
        run = replace(settings, deepspeed=f"configs/deepspeed/{preset}.json")
        student, _ = build_student(run.student, 1)
        assert run.teacher is not None
        teacher = build_teacher(run.teacher, 1, frames=4, frame_size=64)
        model = VideoAdviser(teacher, student, build_objective(run, teacher, student, 8))
        engine = build_engine(model, run, world)
        losses, formats = [], set()
        while len(losses) < STEPS:
            set_learning_rate(engine, run.train.lr)
            out = engine(batch)
            engine.backward(out["loss"] / len(batch.weight))
            engine.step()
            losses.append(float(out["loss"].detach()) / len(batch.weight))
            formats |= {out["loss"].dtype} | {v.dtype for part in ("terms", "logits") for v in out[part].values()}
        found[preset] = losses, formats, {p.dtype for p in model.parameters()}
        engine.destroy()
    torch.save(found, f"{folder}/found.pt")
    world.leave()


@pytest.mark.parametrize("preset", ["bf16", "fp16"])
def test_losses_follow_float32(
    preset: str, tiny: Callable[..., config.Config], make_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    if preset == "fp16" and not torch.cuda.is_available():
        pytest.skip("DeepSpeed trains fp16 only on accelerators that support it; this CPU does not")
    settings = replace(tiny(), train=config.Train(batch_size=4, lr=3e-4))
    _, tokenizer = build_student(settings.student, 1)
    mp.spawn(follow, (settings, make_batch(tokenizer), str(tmp_path), ["zero1", preset]), nprocs=1)
    found = torch.load(tmp_path / "found.pt", weights_only=False)
    exact, formats, weights = found["zero1"]
    assert formats == {torch.float32} and weights == {torch.float32}
    assert exact[-1] < 0.5 * exact[0]
    rounded, formats, weights = found[preset]
    assert formats == {torch.float32}
    assert weights == {torch.bfloat16 if preset == "bf16" else torch.float16}
    differences = [abs(a - b) / a for a, b in zip(exact, rounded, strict=True)]
    assert max(differences) < TOLERANCE, (differences, exact)
