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
    """Write what comes from training as safetensors; called by every rank.

    That is trainable parameters, and buffers of real numbers that are part of the state: statistics of training data.
    """
    trained = {name: p for name, p in engine.module.named_parameters() if p.requires_grad}
    with gathered(trained.values()):
        if world.first:
            scratch = path.with_name(f".{path.name}.tmp")
            kept = {**trained, **fitted_buffers(engine.module)}
            save_file({name: p.detach().cpu().contiguous() for name, p in kept.items()}, scratch)
            scratch.replace(path)
    world.barrier()


def fitted_buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    """Buffers of real numbers that a module's state holds, by name."""
    return {
        f"{name}.{key}" if name else key: buffer
        for name, part in module.named_modules()
        for key, buffer in part.named_buffers(recurse=False)
        if key not in part._non_persistent_buffers_set and buffer.is_floating_point()
    }


def load_trained(engine: Any, path: Path, world: World) -> None:
    """Put the weights of `save_trained` into the model, for evaluation only; called by every rank."""
    trained = {name: p for name, p in engine.module.named_parameters() if p.requires_grad}
    spread = any(hasattr(p, "ds_id") for p in trained.values())
    with gathered(trained.values(), modifier_rank=0), torch.no_grad():
        if world.first or not spread:
            saved = load_file(path)
            for name, parameter in trained.items():
                parameter.copy_(saved[name])
