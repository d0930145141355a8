"""PKT, probabilistic knowledge transfer (Passalis and Tefas 2018), in the form of RepDistiller.

Within the batch, cosine similarities s_ij become (s_ij + 1) / 2 and rows are scaled to sum 1, giving t_ij for the
teacher and q_ij for the student; the loss is the mean over all pairs of t·log((t + ε) / (q + ε)). The paper adapted it to its
two steps (section 5.6.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vadv.objectives.transfer import Gather, Pair, Transfer

if TYPE_CHECKING:
    from vadv.models.batch import Batch

EPSILON = 1e-7


class PKT(Transfer):
    """Match who is similar to whom.

    The batch is the micro-batch of all ranks together, so one rank with 4 clips equals two with 2; with accumulation
    each forward pass is a batch of its own. Needs at least two columns: the cosine of two numbers is ±1.
    """

    name = "pkt"
    per_clip = False

    def __init__(self, acts_on: Literal["logit", "hidden"], gather: Gather) -> None:
        super().__init__()
        self.acts_on = acts_on
        self.gather = gather

    def forward(self, teacher: Tensor, student: Tensor, batch: Batch) -> Tensor:
        """(B, Wt), (B, Ws) → (B,): clip i's row, so that the sum over clips divided by their number is the mean."""
        counts = self.gather(batch.weight.float()) > 0
        t, q = (self._rows(x, counts) for x in (teacher, student))
        pairs = torch.where(counts, t * torch.log((t + EPSILON) / (q + EPSILON)), 0.0)
        return pairs.sum(dim=1) / counts.sum().clamp(min=1)

    def _rows(self, x: Tensor, counts: Tensor) -> Tensor:
        """(B, W) and (G,) bool → (B, G): similarities of this rank's clips to all that count, rows summing to 1."""
        x = F.normalize(x, dim=1, eps=EPSILON)
        similarity = torch.where(counts, (x @ self.gather(x).T + 1) / 2, 0.0)
        return similarity / similarity.sum(dim=1, keepdim=True).clamp(min=EPSILON)


def first(pair: Pair) -> Transfer:
    """PKT of class logits; of hidden layers where logits have one column, since the cosine of two numbers is ±1."""
    return PKT("hidden" if pair.student.logit == 1 else "logit", pair.gather)


second = first
