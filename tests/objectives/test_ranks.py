"""Two ranks with two clips each compute what one rank computes with four: losses, gradients, memories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from vadv.models.batch import Batch
from vadv.objectives.distillers.crd import CRD
from vadv.objectives.distillers.pkt import PKT
from vadv.objectives.transfer import Gather, Transfer, alone
from vadv.training.gather import gather

ROWS, STEPS = 4, 3
WEIGHT = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
"""Of each step: full, with empty slots on both ranks, with a rank that has none."""


def step_of(name: str, join: Gather) -> tuple[Transfer, nn.Linear]:
    torch.manual_seed(0)
    transfer = CRD(6, 5, 12, 4, join) if name == "crd" else PKT("hidden", join)
    return transfer, nn.Linear(8, 5)


def run(name: str, rows: slice, join: Gather) -> dict[str, Any]:
    """A few steps on these rows of each batch; the student's part comes through weights that all ranks share."""
    transfer, student = step_of(name, join)
    g = torch.Generator().manual_seed(1)
    losses, teacher_gradients = [], []
    for step in range(STEPS):
        t, x = torch.randn(ROWS, 6, generator=g), torch.randn(ROWS, 8, generator=g)
        batch = Batch(
            weight=WEIGHT[step, rows],
            label=torch.zeros(ROWS)[rows],
            index=(torch.arange(ROWS) + ROWS * step)[rows],
            noise=(torch.arange(ROWS) * 31 + step)[rows],
        )
        counts = batch.weight[:, None] > 0
        t = torch.where(counts, t[rows], 0.0).requires_grad_()
        loss = transfer(t, torch.where(counts, student(x[rows]), 0.0), batch)
        (loss * batch.weight).sum().backward()
        losses.append(torch.where(batch.weight > 0, loss.detach(), 0.0))
        teacher_gradients.append(t.grad)
    return {
        "loss": torch.stack(losses),
        "teacher": torch.stack(teacher_gradients),
        "weights": student.weight.grad,
        "memory": [v[:-1].view(torch.float32) for k, v in transfer.named_buffers() if "memory" in k],
        "normaliser": [v.view(torch.float32) for k, v in transfer.named_buffers() if k == "normaliser"],
    }


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for name in ("pkt", "crd"):
        torch.save(run(name, slice(rank * 2, rank * 2 + 2), gather), f"{folder}/{name}{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("name", ["pkt", "crd"])
def test_two_ranks_equal_one(name: str, ranks: Path) -> None:
    expected = run(name, slice(0, ROWS), alone)
    both = [torch.load(ranks / f"{name}{r}.pt") for r in range(2)]
    found = {
        "loss": torch.cat([r["loss"] for r in both], dim=1),
        "teacher": torch.cat([r["teacher"] for r in both], dim=1),
        "weights": both[0]["weights"] + both[1]["weights"],
    }
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], atol=1e-5, rtol=1e-5)
    for r in both:
        torch.testing.assert_close(r["memory"], expected["memory"])
        torch.testing.assert_close(r["normaliser"], expected["normaliser"])


def test_gather_alone_is_the_identity() -> None:
    x: Tensor = torch.randn(3)
    assert gather(x) is x
