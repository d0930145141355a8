"""Step-distillation, the paper's own: squared distances of logits in both steps, eqs. 13 and 14."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from vadv.objectives.transfer import Pair, Transfer

if TYPE_CHECKING:
    from vadv.models.batch import Batch


class Step(Transfer):
    """MSE(teacher's logit, student's logit), averaged over the K columns."""

    name = "step"
    acts_on = "logit"

    def forward(self, teacher: Tensor, student: Tensor, batch: Batch) -> Tensor:
        """(B, K), (B, K) → (B,)."""
        return (teacher - student).square().mean(dim=1)


def first(pair: Pair) -> Transfer:
    """Eq. 13."""
    return Step()


def second(pair: Pair) -> Transfer:
    """Eq. 14."""
    return Step()
