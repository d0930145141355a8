"""Joining the ranks' tensors inside a loss, with gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        ctx.rows = len(x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]


def gather(x: Tensor) -> Tensor:
    """All ranks' tensors, one after the other in rank order.

    Every rank must call it with the same shape. The gradient of a rank's part is the sum over the ranks' losses, so
    adding up the ranks' gradients, as data-parallel training does, gives that of the sum of their losses.

    Args:
        x: (B, …).

    Returns:
        (ranks · B, …).
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    joined: Tensor = _Gather.apply(x)
    return joined
