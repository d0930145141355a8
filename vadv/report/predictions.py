"""Per-clip predictions of a run as arrays (RUN/predictions/SPLIT.csv)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vadv.report.runs import Run

LOGITS = ("text_logit", "video_logit", "prompt_logit")


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What a run said of N clips.

    Attributes:
        ids, datasets, texts: N each.
        values: `label` and those of the three logits that the run has, (N,) float64 each.
    """

    ids: list[str]
    datasets: list[str]
    texts: list[str]
    values: dict[str, np.ndarray]


def predictions(run: Run, split: str = "test") -> Predictions | None:
    """Read them; None where there are none or the file is damaged (a report then goes without)."""
    rows = run.predictions(split)
    if not rows or not {"id", "dataset", "text", "label", "text_logit"} <= set(rows[0]):
        return None
    try:
        columns = ["label", *(name for name in LOGITS if name in rows[0])]
        values = {name: np.array([float(row[name]) for row in rows]) for name in columns}
    except ValueError:
        return None
    if not all(np.isfinite(column).all() for column in values.values()):
        return None
    return Predictions(
        ids=[row["id"] for row in rows],
        datasets=[row["dataset"] for row in rows],
        texts=[row["text"] for row in rows],
        values=values,
    )


def retrieval_vectors(run: Run, split: str = "test") -> dict[str, np.ndarray] | None:
    """What a retrieval run compares: `audio` (N, C), `visual` (N, C) and `label` (N,); None as for `predictions`.

    Logits, or their softmax where the run's settings say so.
    """
    rows = run.predictions(split)
    try:
        found = {"label": np.array([float(row["label"]) for row in rows])}
        for name in ("audio", "visual"):
            columns = [key for key in rows[0] if key.rpartition("_")[0] == name and key.rpartition("_")[2].isdigit()]
            logits = np.array([[float(row[key]) for key in columns] for row in rows])
            if run.config["retrieval"]["vector"] == "probabilities":
                powers = np.exp(logits - logits.max(axis=1, keepdims=True))
                logits = powers / powers.sum(axis=1, keepdims=True)
            found[name] = logits
    except (ValueError, KeyError, IndexError):
        return None
    return found if found["audio"].shape == found["visual"].shape and found["audio"].size else None
