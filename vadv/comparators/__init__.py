"""Standard methods of audio-visual retrieval, to be fitted on the same features as the students (Table 4).

Each is what its name says and no more: `-style` marks our own small version of a published idea, written from the paper,
whose numbers are not that paper's. All of them give both modalities vectors of one width, compared by cosine similarity.

    from vadv.comparators import COMPARATORS
    projections = COMPARATORS["c-cca"].fit(train, valid, seed=1)
    projections.audio(features), projections.visual(features)
"""

from __future__ import annotations

from vadv.comparators.comparator import Comparator, Pairs, Projections
from vadv.comparators.registry import COMPARATORS

__all__ = ["COMPARATORS", "Comparator", "Pairs", "Projections"]
