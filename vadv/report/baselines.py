"""Yardsticks for a student, fitted on the training split and measured on another: no training worth the name.

The mean of the training labels; ridge regression on the frozen encoder's embeddings; a rule-based lexicon score, fitted
linearly. A trained student has to beat the first two clearly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vadv import config, metrics
from vadv.clips import open_clips

Rows = list[tuple[str, dict[str, float]]]
ALPHAS = np.logspace(-2, 4, 13)
"""Ridge penalties that the validation split chooses from."""


def baselines(folders: Sequence[str], split: str, student: config.Student) -> Rows:
    """Names and metrics of the yardsticks on `split`.

    Args:
        folders: shard folders.
        split: what is measured; the ridge penalty is chosen on valid.
        student: whose encoder gives the embeddings (mean over tokens, frozen).
    """
    texts, labels = {}, {}
    for part in ("train", "valid", split):
        clips = open_clips(config.Data(shards=list(folders)), part, "sentiment")
        meta = [clips.meta(*clips.locate(index)) for index in range(len(clips))]
        texts[part] = [row["text"] for row in meta]
        labels[part] = np.array([row["label"] for row in meta], dtype=float)
    rows: Rows = [("mean of the training labels", _mean(labels, split))]
    rows.append(("ridge on the frozen encoder", _ridge(texts, labels, split, student)))
    lexicon = _lexicon(texts, labels, split)
    if lexicon is not None:
        rows.append(("lexicon score (VADER), fitted", lexicon))
    return rows


def outcomes(runs: Sequence[str | Path], split: str) -> Rows:
    """Names and metrics of finished runs: the student of each, and the teacher where there was one.

    Raises:
        ValueError: a folder without a result.json that has them.
    """
    rows: Rows = []
    for run in map(Path, runs):
        try:
            result: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
            found = result["splits"][split]
            text, variant = found["text"], result["variant"]
        except OSError:
            raise ValueError(f"{run}: expected a finished run, found no result.json") from None
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{run / 'result.json'}: expected the {split} metrics of a sentiment run, found none that can be read"
            ) from None
        alone = "video" not in found
        rows.append(("student trained alone" if alone else f"student with teacher ({variant})", text))
        if not alone:
            rows.append(("teacher (video logit)", found["video"]))
    return rows


def table(rows: Rows) -> str:
    """The metrics as aligned text, fractions in per cent but for MAE and correlation."""
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':{width}}    MAE   acc7   acc2     F1   corr"]
    for name, m in rows:
        corr = f"{m['corr']:6.3f}" if m["corr"] is not None and np.isfinite(m["corr"]) else "     -"
        lines.append(
            f"{name:{width}}  {m['mae']:5.3f}  {m['acc7']:5.1%}  {m['acc2']:5.1%}  {m['f1']:5.1%} {corr}".replace(
                "%", " "
            )
        )
    return "\n".join(line.rstrip() for line in lines)


def verdict(rows: Rows) -> str:
    """One sentence: whether the teacher helped."""
    mae = {name.split(" (")[0]: m["mae"] for name, m in rows}
    alone, taught = mae.get("student trained alone"), mae.get("student with teacher")
    if alone is None or taught is None:
        return ""
    if taught < alone:
        return f"The teacher lowered the student's error by {alone - taught:.3f} (one seed: no proof)."
    return f"The teacher did not help here: the student's error is {taught - alone:.3f} higher with it (one seed)."


def _mean(labels: dict[str, np.ndarray], split: str) -> dict[str, float]:
    return metrics.sentiment(np.full_like(labels[split], labels["train"].mean()), labels[split])


def _ridge(
    texts: dict[str, list[str]], labels: dict[str, np.ndarray], split: str, student: config.Student
) -> dict[str, float]:
    from sklearn.linear_model import Ridge

    embedded = {part: _embed(texts[part], student) for part in texts}
    models = [Ridge(alpha).fit(embedded["train"], labels["train"]) for alpha in ALPHAS]
    errors = [np.abs(model.predict(embedded["valid"]) - labels["valid"]).mean() for model in models]
    return metrics.sentiment(models[int(np.argmin(errors))].predict(embedded[split]), labels[split])


def _embed(texts: list[str], student: config.Student) -> np.ndarray:
    """Mean over tokens of the frozen encoder's last hidden states, (n, width)."""
    import torch

    from vadv.models import student_weights

    encoder, tokenizer = student_weights.load(student, seed=0)
    encoder.eval()
    parts = []
    for start in range(0, len(texts), 64):
        tokens = tokenizer(
            texts[start : start + 64], padding=True, truncation=True, max_length=student.max_tokens, return_tensors="pt"
        )
        with torch.no_grad():
            states = encoder(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        parts.append(((states * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(parts)


def _lexicon(texts: dict[str, list[str]], labels: dict[str, np.ndarray], split: str) -> dict[str, float] | None:
    """VADER's compound score, scaled and shifted to the training labels; None where the package is missing."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        return None
    analyse = SentimentIntensityAnalyzer().polarity_scores
    scores = {part: np.array([analyse(text)["compound"] for text in texts[part]]) for part in ("train", split)}
    slope, offset = np.polyfit(scores["train"], labels["train"], 1)
    return metrics.sentiment(slope * scores[split] + offset, labels[split])
