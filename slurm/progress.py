"""How far a run has come, read from its files alone: no run is asked, and no heavy library is needed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm.folder import read_json


@dataclass(kw_only=True)
class Progress:
    """What metrics.jsonl shows.

    Attributes:
        step, epoch: of the last line; None before the first.
        best: best validation score of the student so far.
        measure: what people call that score, such as MAE; the run says which one its task selects by.
        rate: clips per second over all ranks, of the last training line.
    """

    step: int | None = None
    epoch: int | None = None
    best: float | None = None
    measure: str | None = None
    rate: float | None = None


def checkpoint_step(run: Path) -> int:
    """Optimizer step of the newest complete checkpoint; 0 without one."""
    try:
        match = re.search(r"(\d+)\s*$", (run / "checkpoints" / "latest").read_text(encoding="utf-8"))
    except OSError:
        return 0
    return int(match[1]) if match else 0


def result(run: Path) -> dict[str, Any] | None:
    """result.json of a finished run, otherwise None."""
    try:
        content = read_json(run / "result.json")
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("state") == "finished" else None


def progress(run: Path) -> Progress:
    """Read what is new in metrics.jsonl; a torn last line (the run is writing) is left for the next time."""
    path = run / "metrics.jsonl"
    try:
        size = path.stat().st_size
    except OSError:
        _READ.pop(path, None)
        return Progress()
    offset, seen = _READ.get(path, (0, Progress()))
    if size < offset:  # an attempt has cut it back to its checkpoint
        offset, seen = 0, Progress()
    with path.open("rb") as file:
        file.seek(offset)
        new = file.read()
    whole = new[: new.rfind(b"\n") + 1]
    for line in whole.decode("utf-8", errors="replace").splitlines():
        try:
            _note(seen, json.loads(line))
        except (ValueError, AttributeError, LookupError, TypeError):
            continue
    _READ[path] = offset + len(whole), seen
    return seen


_READ: dict[Path, tuple[int, Progress]] = {}
"""How far each metrics.jsonl was read: a watched sweep has thousands of them, which only grow."""


def _note(seen: Progress, entry: dict[str, Any]) -> None:
    seen.step, seen.epoch = entry.get("step", seen.step), entry.get("epoch", seen.epoch)
    if entry.get("split") == "train":
        seen.rate = entry.get("samples_per_second", seen.rate)
    elif entry.get("split") == "valid":
        measure = entry["measure"]
        value = entry[measure["output"]][measure["metric"]]
        if math.isfinite(value):
            better = min if measure["better"] == "low" else max
            seen.best = value if seen.best is None else better(seen.best, value)
            seen.measure = measure["name"]


def finished(result: Mapping[str, Any]) -> Progress:
    """The same of a finished run, from its result.json: it need not be read line by line."""
    epochs, measure = result.get("epochs"), result.get("measure") or {}
    return Progress(
        step=result.get("steps"),
        epoch=epochs - 1 if epochs else None,
        best=(result.get("best") or {}).get(measure.get("metric")),
        measure=measure.get("name"),
    )


def total_steps(config: Mapping[str, Any]) -> int | None:
    """Optimizer steps of a whole run, from its configuration and the manifests of its shards.

    Args:
        config: as plan.json and RUN/config.yaml hold it.

    Returns:
        None where a manifest cannot be read from here (remote, not packed yet).
    """
    shards, train = config["data"]["shards"], config["train"]
    folders = [shards] if isinstance(shards, str) else shards
    try:
        manifests = [read_json(Path(folder) / "manifest.json") for folder in folders]
        clips = sum(manifest["splits"]["train"]["samples"] for manifest in manifests)
    except (OSError, ValueError, KeyError):
        return train["max_steps"]
    steps = train["epochs"] * math.ceil(clips / train["batch_size"])
    return min(steps, train["max_steps"] or steps)
