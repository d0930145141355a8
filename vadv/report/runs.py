"""Run folders as reports read them: result.json, or why there is none.

Nothing is guessed: a folder whose result is missing, damaged or not final stays in the list with its problem in one
line, and a report names it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from vadv.metrics import sentiment
from vadv.tasks import Measure

MARKS = ("result.json", "config.yaml", "metrics.jsonl")
"""A folder that holds one of these is a run."""


@dataclass(kw_only=True, eq=False)
class Run:
    """One run folder.

    Attributes:
        folder: where it lies.
        name: its path below what the user named, short and unique in the report.
        config: the resolved settings, or {} where they could not be read.
        result: result.json, or None.
        problem: why the run has no final result, in one line; None for a finished run.
        datasets: names of the datasets it was trained on; ("?",) where that is unknown.
    """

    folder: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    problem: str | None = None
    datasets: tuple[str, ...] = ("?",)

    @property
    def finished(self) -> bool:
        """Whether its numbers may enter a table."""
        return self.problem is None

    @property
    def seed(self) -> int | None:
        """The seed, or None where even that is unknown."""
        seed = (self.result or {}).get("seed", self.config.get("seed"))
        return seed if isinstance(seed, int) else None

    @property
    def measure(self) -> Measure:
        """What its students are judged by; there must be a result."""
        assert self.result is not None
        return Measure(**self.result["measure"])

    def main_score(self, split: str = "test") -> float | None:
        """The score of that measure, or None as for `score`."""
        return self.score(self.measure.output, self.measure.metric, split) if self.result is not None else None

    def scores(self, split: str = "test") -> dict[str, float]:
        """All metrics of that output that are finite numbers."""
        names = self.result["splits"].get(split, {}).get(self.measure.output, {}) if self.result is not None else ()
        return {name: value for name in names if (value := self.score(self.measure.output, name, split)) is not None}

    def score(self, head: str, key: str, split: str = "test", dataset: str | None = None) -> float | None:
        """One metric as result.json has it, or None where it is missing or not a finite number.

        Args:
            head: the output that was scored: text, video, prompt, scores; a retrieval run's student.
            key: the metric's name.
            split: train, valid or test.
            dataset: of a combined set, the part (scored from the predictions); None for the whole.
        """
        if self.result is None:
            return None
        if dataset is not None and (dataset,) != self.datasets:
            value = self._part(head, split, dataset).get(key)
        else:
            value = self.result["splits"].get(split, {}).get(head, {}).get(key)
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

    def parameters(self, part: str) -> int | None:
        """Number of parameters of `student`, `teacher` or `trainable`."""
        value = ((self.result or {}).get("parameters") or {}).get(part)
        return value if isinstance(value, int) else None

    @cached_property
    def environment(self) -> dict[str, Any]:
        """environment.json, or {}."""
        try:
            content = json.loads((self.folder / "environment.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def predictions(self, split: str = "test") -> list[dict[str, str]]:
        """Rows of predictions/SPLIT.csv as texts; none where there is no such file or it is damaged."""
        path = self.folder / "predictions" / f"{split}.csv"
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]
        except (OSError, UnicodeDecodeError, csv.Error):
            return []

    @cache  # noqa: B019  runs live as long as the report
    def _part(self, head: str, split: str, dataset: str) -> dict[str, float]:
        """Metrics of one dataset of a combined set; result.json has those of the whole."""
        rows = [row for row in self.predictions(split) if row.get("dataset") == dataset and f"{head}_logit" in row]
        try:
            return sentiment([float(row[f"{head}_logit"]) for row in rows], [float(row["label"]) for row in rows])
        except ValueError:  # no such rows, or damaged ones: the table shows that the score is missing
            return {}

    def history(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl; the last one may be torn and is then left out."""
        lines = []
        try:
            with (self.folder / "metrics.jsonl").open(encoding="utf-8") as file:
                for line in file:
                    try:
                        content = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(content, dict) and isinstance(content.get("step"), int):
                        lines.append(content)
        except (OSError, UnicodeDecodeError):
            pass
        return lines


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a sweep says of one of its points: its whole configuration, and its state with the last error."""

    config: dict[str, Any] | None
    state: str


def find(paths: Iterable[str | Path]) -> list[Run]:
    """The runs in folders: run folders themselves, or folders of run folders to any depth (sweeps).

    Raises:
        ValueError: a path is no folder, or no run lies under any of them.
    """
    runs: dict[Path, Run] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise ValueError(f"{path}: expected a run folder or a folder of runs, found {_what(path)}")
        for folder, planned in _run_folders(path):
            name = (Path(path.resolve().name) / folder.relative_to(path)).as_posix()
            runs.setdefault(folder.resolve(), read(folder, name, planned))
    if not runs:
        raise ValueError(
            f"{', '.join(map(str, paths))}: expected run folders (with {', '.join(MARKS[:2])}), found none"
        )
    found = list(runs.values())
    _tell_names_apart(found)
    _complete_datasets(found)
    return found


def read(folder: Path, name: str | None = None, planned: Planned | None = None) -> Run:
    """Read one run folder. A damaged or unfinished one is returned with its problem.

    Args:
        folder: where it lies.
        name: what a report calls it.
        planned: what the sweep that it belongs to says of it.
    """
    run = Run(folder=folder, name=name or folder.name)
    path = folder / "result.json"
    if path.exists():
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            run.problem = _fault(result)
        except (OSError, ValueError) as error:
            result, run.problem = None, f"result.json is not readable ({' '.join(str(error).split())}): half-written?"
        if run.problem is None:
            run.result, run.config = result, result["config"]
            run.datasets = _datasets(result["dataset"].split("+"))
            if result.get("state", "finished") != "finished":
                run.problem = f"state is {result['state']}, not finished"
            return run
    else:
        run.problem = _progress(run) + (f"; its sweep says: {planned.state}" if planned else "")
    config = _config(folder) or (planned.config if planned else None)
    if config is None:
        run.problem += "; config.yaml is missing or not readable"
    run.config = config or {}
    return run


def _run_folders(path: Path) -> Iterator[tuple[Path, Planned | None]]:
    """Run folders at or below a folder, those too that a sweep has planned and not begun."""
    if any((path / mark).is_file() for mark in MARKS):
        yield path, None
    elif (path / "plan.json").is_file():
        yield from _planned(path)
    else:
        for child in sorted(path.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _run_folders(child)


def _planned(sweep: Path) -> Iterator[tuple[Path, Planned]]:
    """The points of a sweep folder (slurm/folder.py says what it holds)."""
    try:
        points = json.loads((sweep / "plan.json").read_text(encoding="utf-8"))["points"]
        plans = [(str(point["name"]), point["config"]) for point in points]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{sweep / 'plan.json'}: expected the plan of a sweep, found {error!r}") from None
    for name, config in plans:
        try:
            record = json.loads((sweep / "state" / f"{name}.json").read_text(encoding="utf-8"))
            state = " ".join(f"{record['state']} {record.get('error') or ''}".split())
        except (OSError, ValueError, KeyError, TypeError):
            state = "not begun"
        usable = isinstance(config, dict) and _config_fault(config) is None
        yield sweep / "points" / name, Planned(config=config if usable else None, state=state)


def _fault(result: Any) -> str | None:
    """What result.json lacks to be one."""
    if not isinstance(result, dict):
        return f"result.json: expected an object, found {type(result).__name__}"
    kinds = {"seed": int, "task": str, "dataset": str, "splits": dict, "config": dict}
    for key, kind in kinds.items():
        if not isinstance(result.get(key), kind):
            return f"result.json: expected {key} as {kind.__name__}, found {result.get(key, 'nothing')!r:.40}"
    if not all(isinstance(scores, dict) for scores in result["splits"].values()):
        return "result.json: splits: expected metrics per split"
    measure, wanted = result.get("measure"), {part.name for part in fields(Measure)}
    if not isinstance(measure, dict) or set(measure) != wanted:
        return f"result.json: expected measure with {', '.join(sorted(wanted))}, found {measure or 'nothing'!s:.80}"
    return _config_fault(result["config"])


def _config_fault(config: dict[str, Any]) -> str | None:
    teacher = config.get("teacher")
    wanted = [("student", "model"), ("student", "frozen"), ("objective", "variant"), ("data", "shards")]
    if teacher is not None:
        wanted += [("teacher", "face"), ("teacher", "prompting")]
    for section, key in wanted:
        if not isinstance(config.get(section), dict) or key not in config[section]:
            return f"its configuration has no {section}.{key}"
    return None if isinstance(config.get("task"), str) else "its configuration has no task"


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) and _config_fault(config) is None else None


def _progress(run: Run) -> str:
    if not run.folder.is_dir():
        return "no run folder"
    steps = [line for line in run.history() if isinstance(line.get("epoch"), int)]
    reached = (
        f"at step {steps[-1]['step']} of epoch {steps[-1]['epoch'] + 1}" if steps else "before its first logged step"
    )
    return f"no result.json: not finished, or it failed ({reached})"


def _datasets(names: Iterable[str]) -> tuple[str, ...]:
    # Shorter names first: MOSI before MOSEI, as the paper writes them.
    return tuple(sorted(set(names), key=lambda name: (len(name), name)))


def _complete_datasets(runs: list[Run]) -> None:
    """An unfinished run's dataset: that of a finished run on the same shards, else the manifests'."""
    known = {str(run.config["data"]["shards"]): run.datasets for run in runs if run.result is not None}
    for run in runs:
        if run.result is None and run.config:
            shards = run.config["data"]["shards"]
            run.datasets = known.get(str(shards)) or _from_manifests(shards) or ("?",)


def _from_manifests(shards: str | list[str]) -> tuple[str, ...] | None:
    names = []
    for folder in [shards] if isinstance(shards, str) else shards:
        try:
            names.append(json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))["dataset"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return _datasets([str(name) for name in names])


def _tell_names_apart(runs: list[Run]) -> None:
    names = [run.name for run in runs]
    for run in runs:
        if names.count(run.name) > 1:
            run.name = str(run.folder)


def _what(path: Path) -> str:
    return "a file" if path.exists() else "nothing there"
