"""What TensorBoard shows beside curves: where a number belongs, which settings a run is compared by, texts with predictions.

`tensorboard --logdir RUNS` then has a section for losses, one for speed, one for each output's metrics; a row per run in
HPARAMS; and the worst predictions in TEXT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from vadv import parts
from vadv.config import Config

SECTIONS = {
    "optimizer": ("lr", "grad_norm"),
    "speed": ("samples_per_second", "data_wait", "save_stall", "tflops", "mfu", "padded_tokens"),
    "faults": ("bad_samples", "skipped_steps"),
}
"""Numbers of a training step that are no terms of the loss."""

COMPARED = ("seed", "objective.", "student.", "teacher", "retrieval.", "train.")
"""Settings that tell runs apart, by how their keys begin."""
SAME = ("train.checkpoint_every", "train.keep_checkpoints", "train.stall_timeout", "train.micro_batch_size")
"""Settings among them that change no number."""

TEACHERS = ("video", "prompt", "scores")
"""Outputs of teachers; those of students have the names that a task gives them."""

TEXTS = 16
"""Texts that are shown."""


def tag(split: str, name: str) -> str:
    """TensorBoard's name of a number: what stands before the first slash is its section.

    Args:
        split: train, or what was evaluated.
        name: as in metrics.jsonl, nested names joined by a slash: `text_mse`, `text/mae`.
    """
    if split != "train":
        head, _, metric = name.partition("/")
        return f"{split} {head}/{metric}" if metric else f"{split}/{name}"
    return f"{next((section for section, names in SECTIONS.items() if name in names), 'loss')}/{name}"


def hyperparameters(config: Config) -> dict[str, bool | int | float | str]:
    """Settings by dotted key, as HPARAMS takes them: without teacher, `teacher` is False."""
    flat = {key: value for key, value in _flat(asdict(config)).items() if key.startswith(COMPARED) and key not in SAME}
    others = tuple(f"{name}." for name in parts.names("vadv.tasks") if name != config.task)
    flat = {key: value for key, value in flat.items() if not key.startswith(others)}  # settings of other tasks
    flat["teacher"] = config.teacher is not None
    return {key: value for key, value in flat.items() if isinstance(value, (bool, int, float, str))}


def results(metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    """The student's test metrics for HPARAMS, `test text/mae`; the teacher's are in result.json."""
    return {
        tag("test", f"{head}/{name}"): value
        for head, values in metrics.items()
        if head not in TEACHERS
        for name, value in values.items()
        if name != "n" and np.isfinite(value)
    }


def worst_texts(table: dict[str, np.ndarray], text: Callable[[int], str], most: int = TEXTS) -> list[str]:
    """A Markdown table of the texts with the largest errors; nothing for a task without a text logit.

    Args:
        table: `index`, `label` and the logits, (N,) each.
        text: transcript of a clip by its index.
        most: rows.
    """
    if "text_logit" not in table:
        return []
    logits = [name for name in ("text_logit", "video_logit", "prompt_logit") if name in table]
    rows = np.argsort(-np.abs(table["text_logit"] - table["label"]), kind="stable")[:most]
    lines = [f"| label | {' | '.join(logits)} | transcript |", "|" + "---|" * (len(logits) + 2)]
    for row in rows.tolist():
        numbers = " | ".join(f"{table[name][row]:.2f}" for name in ("label", *logits))
        lines.append(f"| {numbers} | {_plain(text(int(table['index'][row])))} |")
    return lines


def _plain(text: str) -> str:
    """A transcript inside Markdown: nothing in it is markup or leaves its cell."""
    text = " ".join(text.split())[:300]
    return "".join(f"&#{ord(char)};" if char in "\\`*_[]<>|#&!~" else char for char in text)


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, dict):
        return {prefix.rstrip("."): settings}
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{prefix}{key}.")
    return found
