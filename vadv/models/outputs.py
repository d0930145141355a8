"""What teacher and student hand to the objective. All float32.

Shape legend: B clips, K outputs (1 for sentiment, the classes for retrieval), C prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Widths(NamedTuple):
    """Widths of an `Output`'s parts."""

    representation: int
    hidden: int
    logit: int


@dataclass(frozen=True, kw_only=True)
class Output:
    """One logit of Fig. 2 and what it was made of."""

    logit: Tensor
    """(B, K)."""
    hidden: Tensor
    """(B, 128), hidden layer of the two-layer MLP that gives the logit."""
    representation: Tensor
    """(B, width), that MLP's input: V (eq. 6), p (eq. 8) or V^(t) (eq. 9)."""


@dataclass(frozen=True, kw_only=True)
class TeacherOutput:
    """What the teacher says about B clips."""

    video: Output
    """Video logit, of V."""
    prompt: Output
    """Video-enhanced prompt logit, of p."""
    scores: Tensor
    """(B, C) log of p, eq. 8."""
