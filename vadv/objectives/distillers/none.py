"""Teacher and students beside each other: nothing is distilled (Table 10)."""

from __future__ import annotations

from vadv.objectives.transfer import Pair


def first(pair: Pair) -> None:
    """None: δ = 0."""


def second(pair: Pair) -> None:
    """None: ψ = 0."""
