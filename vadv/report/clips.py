"""Which clips a reader should look at: the largest errors, and where teacher and student disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vadv.report.predictions import LOGITS, Predictions, predictions
from vadv.report.scenes import Scene

MOST_RUNS = 12
"""Runs whose clips are shown: the typical run of each series, so that the page stays small."""


@dataclass(frozen=True, kw_only=True)
class ClipView:
    """One clip under one run.

    Attributes:
        run: number in the list of runs.
        logits: those of `LOGITS` that the run has, by name.
        error: |text logit − label|.
        gap: |video logit − text logit|, None without a teacher.
    """

    run: int
    id: str
    dataset: str
    text: str
    label: float
    logits: dict[str, float]
    error: float
    gap: float | None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Clips to show.

    Attributes:
        runs: titles of the runs they were predicted by.
        clips: each run's clips, the largest error first.
    """

    runs: list[str]
    clips: list[ClipView]


def select(scenes: Sequence[Scene], most: int, split: str = "test") -> Selection:
    """The `most` largest errors and the `most` largest disagreements of each series' typical run."""
    titles: list[str] = []
    clips: list[ClipView] = []
    for scene in scenes:
        for name, group in scene.groups.items():
            run = group.typical
            said = predictions(run, split) if run and len(titles) < MOST_RUNS else None
            if run and said:
                clips += _pick(said, len(titles), most)
                titles.append(f"{scene.title}: {name} (seed {run.seed})")
    return Selection(runs=titles, clips=clips)


def _pick(said: Predictions, run: int, most: int) -> list[ClipView]:
    label, text = said.values["label"], said.values["text_logit"]
    error = np.abs(text - label)
    gap = np.abs(said.values["video_logit"] - text) if "video_logit" in said.values else None
    rows = set(np.argsort(-error, kind="stable")[:most].tolist())
    if gap is not None:
        rows |= set(np.argsort(-gap, kind="stable")[:most].tolist())
    return [
        ClipView(
            run=run,
            id=said.ids[row],
            dataset=said.datasets[row],
            text=said.texts[row],
            label=float(label[row]),
            logits={name: float(said.values[name][row]) for name in LOGITS if name in said.values},
            error=float(error[row]),
            gap=None if gap is None else float(gap[row]),
        )
        for row in sorted(rows, key=lambda row: (-error[row], row))
    ]
