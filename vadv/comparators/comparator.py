"""What every comparator takes and gives.

Legend: n clips, Da and Dv widths of audio and visual features, K width of the common space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from vadv import metrics

Project = Callable[[np.ndarray], np.ndarray]

DIMENSIONS = 10
"""K where a method leaves it free: the width of the students' vectors on VEGAS."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Clips of a split: (n, Da) audio, (n, Dv) visual, (n,) classes."""

    audio: np.ndarray
    visual: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.audio) == len(self.visual) == len(self.labels):
            raise ValueError(
                "comparators: expected as many audio and visual vectors as labels, "
                f"found {len(self.audio)}, {len(self.visual)} and {len(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Projections:
    """A fitted method: features of a modality, (n, D), to vectors of the common space, (n, K)."""

    audio: Project
    visual: Project

    def score(self, pairs: Pairs) -> dict[str, float]:
        """mAP in both directions and their mean."""
        return metrics.retrieval(self.audio(pairs.audio), self.visual(pairs.visual), pairs.labels)


Fit = Callable[[Pairs, Pairs, int], Projections]
"""(training clips, validation clips, seed) → the fitted method; validation chooses penalties and when to stop."""


@dataclass(frozen=True, kw_only=True)
class Comparator:
    """A method of Table 4.

    Attributes:
        key: its name in results and in `vadv/report/published.json` where the paper compares with it.
        title: what it is, for tables.
        source: the paper it comes from.
        fit: fits it.
        random: whether a seed changes anything.
    """

    key: str
    title: str
    source: str
    fit: Fit
    random: bool = True


def best(candidates: Iterable[Projections], valid: Pairs) -> Projections:
    """The candidate with the highest mean mAP on the validation clips; of equals the first."""
    scored = [(candidate.score(valid)["map_mean"], candidate) for candidate in candidates]
    return max(scored, key=lambda pair: pair[0])[1]


@dataclass(frozen=True)
class Standardiser:
    """Features to mean 0 and deviation 1 of the training clips; a constant feature becomes 0."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Standardiser:
        """From (n, D) training features."""
        std = features.std(axis=0)
        return cls(features.mean(axis=0), np.where(std > 1e-8, std, np.inf))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(n, D) → (n, D) float64."""
        return (np.asarray(features, np.float64) - self.mean) / self.std


def standardised(pairs: Pairs) -> tuple[Pairs, Standardiser, Standardiser]:
    """Training clips in standard form, and what brings others into it."""
    audio, visual = Standardiser.of(pairs.audio), Standardiser.of(pairs.visual)
    return Pairs(audio=audio(pairs.audio), visual=visual(pairs.visual), labels=pairs.labels), audio, visual
