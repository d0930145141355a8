"""Step-distillation without its first step: what the video logit learns from the prompts' is left out (Table 10)."""

from __future__ import annotations

from vadv.objectives.distillers.step import second
from vadv.objectives.transfer import Pair

__all__ = ["first", "second"]


def first(pair: Pair) -> None:
    """None: δ = 0."""
