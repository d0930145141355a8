"""Whole weights from and into a model whose parameters DeepSpeed may have spread over ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vadv.training.distributed import World


@contextlib.contextmanager
def gathered(parameters: Iterable[nn.Parameter], modifier_rank: int | None = None) -> Iterator[None]:
    """Whole parameters inside the block, also under ZeRO-3; entered by every rank.

    Args:
        modifier_rank: a rank whose changes to them are given to the others at the end.
    """
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=modifier_rank):
        yield


def save_trained(engine: Any, path: Path, world: World) -> None:
    """Write what training changes (trainable parameters) as safetensors; called by every rank."""
    trained = {name: p for name, p in engine.module.named_parameters() if p.requires_grad}
    with gathered(trained.values()):
        if world.first:
            scratch = path.with_name(f".{path.name}.tmp")
            save_file({name: p.detach().cpu().contiguous() for name, p in trained.items()}, scratch)
            scratch.replace(path)
    world.barrier()


def load_trained(engine: Any, path: Path, world: World) -> None:
    """Put the weights of `save_trained` into the model, for evaluation only; called by every rank."""
    trained = {name: p for name, p in engine.module.named_parameters() if p.requires_grad}
    spread = any(hasattr(p, "ds_id") for p in trained.values())
    with gathered(trained.values(), modifier_rank=0), torch.no_grad():
        if world.first or not spread:
            saved = load_file(path)
            for name, parameter in trained.items():
                parameter.copy_(saved[name])
