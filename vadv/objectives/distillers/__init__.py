"""How the teacher's knowledge reaches the student: one file for each value of `objective.variant`, named like it.

docs/method.md has a table of them, docs/extend.md shows how to write another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vadv.objectives.transfer import Pair, Transfer


class Distiller(Protocol):
    """What a file here holds. Nothing is imported before `objective.variant` names it."""

    def first(self, pair: Pair) -> Transfer | None:
        """What the video's output learns from the prompt's (eq. 13); None for no first step."""

    def second(self, pair: Pair) -> Transfer | None:
        """What a student's output learns from the video's (eq. 14); None for no second step."""
