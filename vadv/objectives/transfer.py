"""The interface of a distillation step: how one output of Fig. 2 learns from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from vadv import config
    from vadv.models.batch import Batch
    from vadv.models.outputs import Widths

Gather = Callable[[Tensor], Tensor]
"""Joins the ranks' tensors along the first dimension, in rank order, and sends gradients back to them."""


def alone(x: Tensor) -> Tensor:
    """The gather of a single process."""
    return x


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two outputs that a transfer is made for, and what else it may need."""

    teacher: Widths
    """Of the output that teaches."""
    student: Widths
    """Of the output that learns."""
    settings: config.Objective
    """`objective` of the configuration."""
    clips: int
    """Number of training clips; `Batch.index` is below it."""
    gather: Gather = alone
    """Joins the ranks' micro-batches."""


class Transfer(nn.Module):
    """A loss per clip between what a teacher and a student say about it.

    Attributes:
        name: of the term in logs.
        acts_on: which part of the two `Output`s is compared.
        per_clip: whether a clip's loss depends on that clip alone. The others are zero in evaluation, where their
            batches or memories mean nothing.
    """

    name: str
    acts_on: Literal["logit", "hidden", "representation"]
    per_clip = True

    def forward(self, teacher: Tensor, student: Tensor, batch: Batch) -> Tensor:
        """Compare.

        Args:
            teacher: (B, …) part of the teaching output.
            student: (B, …) part of the learning output.
            batch: for weights, indices and random keys.

        Returns:
            (B,) float32. Values of clips of weight 0 are finite and otherwise of no meaning.
        """
        raise NotImplementedError
