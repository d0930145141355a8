"""Random vectors: what retrieval scores without any knowledge (Table 4, 0.109 on VEGAS' test split)."""

from __future__ import annotations

import numpy as np

from vadv.comparators.comparator import DIMENSIONS, Pairs, Projections


def fit_random(train: Pairs, valid: Pairs, seed: int) -> Projections:
    """A normal vector for every clip and modality, whatever its features."""

    def draw(part: int):  # type: ignore[no-untyped-def]
        return lambda features: np.random.default_rng([seed, part]).normal(size=(len(features), DIMENSIONS))

    return Projections(audio=draw(0), visual=draw(1))
