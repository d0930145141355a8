"""FitNet (Romero et al. 2014): MSE(regressor(student's hidden layer), teacher's hidden layer).

On one-column logits this would be step-distillation itself, so it acts on the MLPs' 128 hidden units. The paper adapted it
to its two steps (section 5.6.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from vadv.models.mlp import FullPrecisionLinear
from vadv.objectives.transfer import Pair, Transfer

if TYPE_CHECKING:
    from vadv.models.batch import Batch


class FitNet(Transfer):
    """Hints: a linear regressor from the student's hidden layer to the teacher's."""

    name = "fitnet"
    acts_on: Literal["hidden"] = "hidden"

    def __init__(self, teacher_width: int, student_width: int) -> None:
        super().__init__()
        self.regressor: nn.Module = FullPrecisionLinear(student_width, teacher_width)

    def forward(self, teacher: Tensor, student: Tensor, batch: Batch) -> Tensor:
        """(B, Ht), (B, Hs) → (B,)."""
        return (self.regressor(student) - teacher).square().mean(dim=1)


def first(pair: Pair) -> Transfer:
    """FitNet of hidden layers."""
    return FitNet(pair.teacher.hidden, pair.student.hidden)


second = first
