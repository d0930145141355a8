"""Comparators fitted on shards, their results in the form of runs, and a table of them beside trained students."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shards.vectors import read_vectors
from vadv import config
from vadv.clips import open_clips
from vadv.comparators.comparator import Comparator, Pairs
from vadv.tasks.retrieval import Retrieval, retrieval_metrics

Row = tuple[str, dict[str, float]]
SPLITS = ("train", "valid", "test")


def read_pairs(folders: Sequence[str], split: str) -> Pairs:
    """The vectors of a split.

    Raises:
        ValueError: no such split, or clips without vectors.
    """
    found = read_vectors(open_clips(config.Data(shards=list(folders)), split, "retrieval"))
    return Pairs(audio=found.audio, visual=found.visual, labels=found.labels)


def fit_all(
    comparators: Sequence[Comparator], folders: Sequence[str], seeds: Sequence[int], out: Path | None
) -> Iterator[tuple[Comparator, int, dict[str, float]]]:
    """Fit each comparator with each seed; yields its metrics on the test split as soon as it has them.

    Args:
        comparators: which ones.
        folders: shards.
        seeds: of weights and order; a method without anything random is fitted with the first only.
        out: folder for OUT/KEY-SEED/result.json, which launch/report.py reads as it does a run's; None writes nothing.
    """
    train, valid, test = (read_pairs(folders, split) for split in SPLITS)
    dataset = open_clips(config.Data(shards=list(folders)), "train").dataset
    for comparator in comparators:
        for seed in seeds if comparator.random else seeds[:1]:
            began = time.monotonic()
            projections = comparator.fit(train, valid, seed)
            splits = {
                name: retrieval_metrics(projections.audio(pairs.audio), projections.visual(pairs.visual), pairs.labels)
                for name, pairs in (("valid", valid), ("test", test))
            }
            if out is not None:
                seconds = time.monotonic() - began
                _write(out / f"{comparator.key}-{seed}", comparator, seed, folders, dataset, splits, len(test), seconds)
            yield comparator, seed, splits["test"]


def outcomes(runs: Sequence[str | Path], split: str = "test") -> list[Row]:
    """Names and metrics of finished retrieval runs.

    Raises:
        ValueError: a folder without the result of such a run.
    """
    rows: list[Row] = []
    for run in map(Path, runs):
        try:
            result: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
            found = result["splits"][split]["students"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(f"{run}: expected a finished retrieval run, found no such result.json") from None
        rows.append((name_of(result), found))
    return rows


def name_of(result: dict[str, Any]) -> str:
    """What a run is, for a table."""
    if result["config"]["teacher"] is None or result["variant"] == "none":
        return "EICS-style students, not distilled"
    sides = result["config"]["retrieval"]["sides"]
    side = "" if sides == "both" else f", {sides} student only"
    return f"with teacher ({result['variant']}{side})"


def table(rows: Sequence[Row]) -> str:
    """mAP in both directions and their mean, as the paper's Table 4."""
    width = max(len(name) for name, _ in rows)
    lines = [f"{'mAP':{width}}   A->V   V->A  average"]
    for name, m in rows:
        lines.append(f"{name:{width}}  {m['map_a2v']:5.3f}  {m['map_v2a']:5.3f}    {m['map_mean']:5.3f}")
    return "\n".join(lines)


def verdict(results: Sequence[dict[str, Any]]) -> str:
    """One sentence: whether the teacher helped, from two runs that differ in it."""
    alone = [r["splits"]["test"]["students"]["map_mean"] for r in results if "not distilled" in name_of(r)]
    taught = [r["splits"]["test"]["students"]["map_mean"] for r in results if name_of(r) == "with teacher (step)"]
    if not alone or not taught:
        return ""
    difference = sum(taught) / len(taught) - sum(alone) / len(alone)
    seeds = "one seed: no proof" if min(len(alone), len(taught)) == 1 else f"{len(taught)} and {len(alone)} runs"
    if difference > 0:
        return f"Distillation raised the mean mAP by {difference:.3f} ({seeds})."
    return f"Distillation did not help here: the mean mAP is {abs(difference):.3f} lower with it ({seeds})."


def _write(
    folder: Path,
    comparator: Comparator,
    seed: int,
    folders: Sequence[str],
    dataset: str,
    splits: dict[str, dict[str, float]],
    count: int,
    seconds: float,
) -> None:
    settings = asdict(config.Config(task="retrieval", seed=seed, teacher=None, data=config.Data(shards=list(folders))))
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "state": "finished",
        "task": "retrieval",
        "dataset": dataset,
        "variant": "comparator",
        "method": comparator.key,
        "title": comparator.title,
        "source": comparator.source,
        "random": comparator.random,
        "measure": asdict(Retrieval.measure),
        "seed": seed,
        "splits": {name: {"students": {**found, "n": count}} for name, found in splits.items()},
        "wall_seconds": seconds,
        "config": {**settings, "method": comparator.key},
    }
    scratch = folder / ".result.json.tmp"
    scratch.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    scratch.replace(folder / "result.json")
