"""The losses of EICS's two common spaces, as its authors describe them (Zeng et al. 2023).

explicit = |e_audio - e_visual|² / C                 the pair of a clip is pulled together
implicit = |i_audio - y|² / C + |i_visual - y|² / C  y is the one-hot class: categories move apart in each modality
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vadv.objectives.joint import masked

if TYPE_CHECKING:
    from vadv.models.batch import Batch
    from vadv.models.eics import SpaceOutput


class SpaceLoss(nn.Module):
    """The weighted sum of both spaces' losses over the micro-batch: a sum, like every term of the joint loss."""

    def __init__(self, explicit: float, implicit: float) -> None:
        super().__init__()
        self.explicit, self.implicit = explicit, implicit

    def forward(self, students: Mapping[str, SpaceOutput], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Both losses.

        Args:
            students: `audio` and `visual`.
            batch: classes and weights.

        Returns:
            The weighted sum, a scalar; `explicit` and `implicit` before their weights, detached.
        """
        counts = batch.weight > 0
        audio, visual = (masked(students[name], counts) for name in ("audio", "visual"))
        label = torch.where(counts, batch.label, torch.zeros_like(batch.label))
        target = F.one_hot(label, audio.implicit.shape[1]).to(audio.implicit.dtype)
        together = (audio.explicit - visual.explicit).square().mean(dim=1)
        apart = sum((one.implicit - target).square().mean(dim=1) for one in (audio, visual))
        sums = {"explicit": (together * batch.weight).sum(), "implicit": (apart * batch.weight).sum()}
        total = self.explicit * sums["explicit"] + self.implicit * sums["implicit"]
        return total, {name: value.detach() for name, value in sums.items()}
