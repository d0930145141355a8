"""KD (Hinton et al. 2015): T²·KL(softmax(teacher / T) ‖ softmax(student / T)) on class logits.

The paper adapted it to its two steps (section 5.6.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from vadv.objectives.transfer import Pair, Transfer

if TYPE_CHECKING:
    from vadv.models.batch import Batch


class KD(Transfer):
    """Soft targets. On one column a softmax is 1 whatever the logit: the loss and its gradient are exactly 0."""

    name = "kd"
    acts_on = "logit"

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, teacher: Tensor, student: Tensor, batch: Batch) -> Tensor:
        """(B, K), (B, K) → (B,)."""
        target = F.log_softmax(teacher / self.temperature, dim=1)
        guess = F.log_softmax(student / self.temperature, dim=1)
        return self.temperature**2 * (target.exp() * (target - guess)).sum(dim=1)


def first(pair: Pair) -> Transfer:
    """KD of class logits.

    Raises:
        ValueError: the logits have one column.
    """
    if pair.student.logit == 1:
        raise ValueError(
            "objective.variant: kd compares class probabilities, and the softmax of sentiment's one logit is always 1: "
            "loss and gradient would be exactly 0; expected another variant, such as step, or task=retrieval"
        )
    return KD(pair.settings.temperature)


second = first
