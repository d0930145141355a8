"""Run folders as training writes them, made in milliseconds: what the tests of reports read.

The predictions are drawn at random around the labels, the metrics are computed from them by the project's own code.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vadv import metrics
from vadv.config import Config

WORDS = [
    "what",
    "a",
    "day",
    "this",
    "was",
    "I",
    "never",
    "liked",
    "it",
    "but",
    "maybe",
    "we",
    "should",
    "see",
    "the",
    "next",
    "one",
    "again",
    "truly",
    "awful",
    "great",
    "fine",
]
ERROR = {"step": 0.42, "step-without-first": 0.47, "crd": 0.48, "kd": 0.5, "fitnet": 0.49, "pkt": 0.5, "none": 0.55}
"""Standard deviation of the student's error by variant, so that tables and figures show an order."""


def clips(count: int, dataset: str = "sample", seed: int = 0) -> list[dict[str, Any]]:
    """Ids, transcripts and labels of a test split."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        words = rng.choice(WORDS, int(rng.integers(1, 30)))
        label = float(np.clip(np.round(rng.normal(0.2, 1.4) * 5) / 5, -3, 3))
        rows.append({"id": f"{dataset}-{number}", "dataset": dataset, "text": " ".join(words), "label": label})
    return rows


def write_run(
    folder: Path,
    *,
    dataset: str = "sample",
    seed: int = 1,
    settings: dict[str, Any] | None = None,
    rows: list[dict[str, Any]] | None = None,
    error: float | None = None,
    parameters: int = 22_700_000,
    finished: bool = True,
) -> Path:
    """One run folder.

    Args:
        settings: by dotted key; `teacher: None` trains the student alone.
        rows: the test split; default: 120 made clips.
        error: standard deviation of the student's error.
        finished: without, there is no result.json and no predictions.
    """
    folder.mkdir(parents=True)
    config = asdict(Config(seed=seed))
    config["data"]["shards"] = f"/data/{dataset}"
    _put(config, settings or {})
    variant = config["objective"]["variant"] if config["teacher"] else "student alone"
    rng = np.random.default_rng([seed, len(variant)])
    rows = clips(120, dataset) if rows is None else rows
    label = np.array([row["label"] for row in rows])
    spread = error if error is not None else ERROR.get(variant, 0.58) * float(rng.normal(1, 0.03))
    table = {"text_logit": 0.95 * label + rng.normal(0, spread, len(label))}
    if config["teacher"]:
        table["video_logit"] = 0.5 * label + rng.normal(0, 0.8, len(label))
        table["prompt_logit"] = 0.3 * label + rng.normal(0, 0.3, len(label))
        table["score_positive"] = 1 / (1 + np.exp(-2 * table["prompt_logit"]))
        table["score_negative"] = 1 - table["score_positive"]
    scores: dict[str, Any] = {
        name.removesuffix("_logit"): metrics.sentiment(values, label)
        for name, values in table.items()
        if name.endswith("_logit")
    }
    if config["teacher"]:
        positive = table["score_positive"] > 0.5
        scores["scores"] = {"acc2": float(np.mean(positive == (label >= 0))), "n": len(label)}
    (folder / "config.yaml").write_text(yaml.dump(config, Dumper=yaml.CSafeDumper, sort_keys=False), encoding="utf-8")
    _write_json(
        folder / "environment.json",
        {
            "python": "3.11.2",
            "platform": "Linux",
            "packages": {"torch": "2.14.1", "deepspeed": "0.19.8", "transformers": "5.24.0", "numpy": "2.4.6"},
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "uncommitted": "",
            "command": ["launch/train.py", "--seed", str(seed)],
            "world_size": 2,
            "devices": ["cpu", "cpu"],
            "threads": "1",
        },
    )
    _write_history(folder / "metrics.jsonl", rng, scores["text"]["mae"])
    if not finished:
        return folder
    _write_json(
        folder / "result.json",
        {
            "state": "finished",
            "task": "sentiment",
            "dataset": dataset,
            "variant": variant,
            "seed": seed,
            "splits": {"valid": scores, "test": scores},
            "clips": {"train": 600, "valid": len(label), "test": len(label)},
            "measure": {"output": "text", "metric": "mae", "name": "MAE", "better": "low"},
            "best": {"epoch": 2, "step": 90, "mae": scores["text"]["mae"]},
            "steps": 90,
            "epochs": 3,
            "skipped_steps": 0,
            "parameters": {"student": parameters, "teacher": 40_000_000, "trainable": parameters + 1_000_000},
            "wall_seconds": 61.5 + seed,
            "samples_per_second": 29.3,
            "config": config,
        },
    )
    (folder / "predictions").mkdir()
    with (folder / "predictions" / "test.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "dataset", "text", "label", *table])
        for index, row in enumerate(rows):
            values = [f"{column[index]:.9g}" for column in table.values()]
            writer.writerow([row["id"], row["dataset"], row["text"], f"{row['label']:.6g}", *values])
    return folder


def write_retrieval(
    folder: Path,
    *,
    seed: int = 1,
    settings: dict[str, Any] | None = None,
    noise: float = 1.0,
    dataset: str = "vegas",
    method: str | None = None,
) -> Path:
    """A run folder of the retrieval task; with `method`, the result of a comparator (vadv/comparators/results.py)."""
    from vadv.tasks.retrieval import Retrieval, retrieval_metrics

    folder.mkdir(parents=True)
    config = asdict(Config(seed=seed, task="retrieval"))
    config["teacher"]["face"] = False
    config["data"]["shards"] = f"/data/{dataset}"
    _put(config, settings or {})
    rng = np.random.default_rng([seed, 7])
    label = np.repeat(np.arange(5), 8)
    audio, visual = (np.eye(5)[label] + rng.normal(0, noise, (40, 5)) for _ in range(2))
    scores = {"students": {**retrieval_metrics(audio, visual, label), "n": len(label)}}
    result = {
        "state": "finished",
        "task": "retrieval",
        "dataset": dataset,
        "variant": config["objective"]["variant"] if config["teacher"] else "student alone",
        "seed": seed,
        "splits": {"valid": scores, "test": scores},
        "measure": asdict(Retrieval.measure),
        "wall_seconds": 9.0,
        "config": config,
    }
    if method:
        result |= {"variant": "comparator", "method": method, "title": method.upper(), "random": method == "dcca"}
        result["config"] = {**config, "teacher": None, "method": method}
        _write_json(folder / "result.json", result)
        return folder
    (folder / "config.yaml").write_text(yaml.dump(config, Dumper=yaml.CSafeDumper), encoding="utf-8")
    _write_json(folder / "result.json", result)
    (folder / "predictions").mkdir()
    with (folder / "predictions" / "test.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        heads = [f"{name}_{number}" for name in ("audio", "visual") for number in range(5)]
        writer.writerow(["id", "dataset", "text", "label", *heads, "score_a_bell_1"])
        for row in range(len(label)):
            numbers = [f"{value:.9g}" for value in (*audio[row], *visual[row], 0.5)]
            writer.writerow([f"clip-{row}", dataset, "a bell", label[row], *numbers])
    return folder


def _put(config: dict[str, Any], settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        section = config
        *path, last = key.split(".")
        for name in path:
            section = section[name]
        section[last] = value


def write_sweep(folder: Path, seeds: int = 5, dataset: str = "sample", **options: Any) -> Path:
    """Run folders for the rows of Tables 2, 6, 7, 10 and 12."""
    points: dict[str, dict[str, Any]] = {
        "step": {},
        "no-first": {"objective.variant": "step-without-first"},
        "none": {"objective.variant": "none"},
        "crd": {"objective.variant": "crd"},
        "no-face": {"teacher.face": False},
        "no-prompting": {"teacher.prompting": False},
        "alone": {"teacher": None},
        "frozen": {"student.frozen": True},
    }
    spread = {"no-face": 0.45, "no-prompting": 0.44, "frozen": 1.2}
    base = options.pop("settings", {})
    for name, settings in points.items():
        for seed in range(1, seeds + 1):
            error = spread[name] * (1 + 0.02 * seed) if name in spread else None
            write_run(
                folder / f"{name}-{seed}",
                dataset=dataset,
                seed=seed,
                settings={**base, **settings},
                error=error,
                **options,
            )
    return folder


def _write_history(path: Path, rng: np.random.Generator, mae: float) -> None:
    with path.open("w", encoding="utf-8") as file:
        for step in range(1, 91):
            loss = 3 * np.exp(-step / 25) + 0.8 + rng.normal(0, 0.15)
            line: dict[str, Any] = {"step": step, "epoch": (step - 1) // 30, "split": "train", "loss": float(loss)}
            file.write(json.dumps(line) + "\n")
            if step % 30 == 0:
                value = mae * (1 + np.exp(-step / 30))
                line = {"step": step, "epoch": step // 30 - 1, "split": "valid", "text": {"mae": float(value)}}
                file.write(json.dumps(line) + "\n")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
