"""Runs that differ in nothing but their seed, and what their settings make them: the rows of tables.

Two runs enter one mean only if every setting that can change a number is the same. What cannot (decoder processes,
caches, micro-batches, paths) is left out of the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from vadv.config import HANDLING
from vadv.report.runs import Run
from vadv.tasks import Measure

FREE = {
    *HANDLING,
    "seed",
    "task",
    "data.shards",  # the dataset's name stands for it
    "teacher.cache_features",
    "teacher.compile",
}
"""Settings by which two runs of one group may differ."""

STUDENTS = {"roberta-large": "RoBERTa-Large", "roberta-base": "RoBERTa-Base", "bert-base": "BERT"}
"""Names of tables for models of the hub, by a part of the model's name."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a run is in the words of the paper's tables.

    Attributes:
        task: sentiment, retrieval or one of the user's own.
        datasets: trained on these.
        student: what reports call the student.
        frozen: only the student's MLP was trained.
        teacher: there was one.
        face, prompting: the teacher had that component (Table 6).
        variant: how knowledge was distilled (Tables 10 and 11); "alone" without a teacher.
        sides: students of the retrieval task that the teacher reached (Table 8): both, visual, audio.
        method: the retrieval model; "ours" or a comparator of Table 4.
    """

    task: str
    datasets: tuple[str, ...]
    student: str
    frozen: bool
    teacher: bool
    face: bool
    prompting: bool
    variant: str
    sides: str = "both"
    method: str = "ours"

    @property
    def whole(self) -> bool:
        """The method as it is by default: a full teacher and a student whose every parameter is trained."""
        return self.teacher and self.face and self.prompting and not self.frozen


@dataclass(kw_only=True, eq=False)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        traits: what they are.
        settings: flattened settings that they share, those that can change a number.
        runs: finished runs by seed.
        problems: seeds without a final result, and why.
        remarks: anything else a reader must know, such as two runs of one seed.
    """

    traits: Traits
    settings: dict[str, Any]
    runs: dict[int, Run] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def seeds(self) -> set[int]:
        """Seeds that were run, finished or not."""
        return set(self.runs) | set(self.problems)

    def scores(self, head: str, key: str, split: str = "test", dataset: str | None = None) -> dict[int, float | None]:
        """One metric by seed."""
        return {seed: run.score(head, key, split, dataset) for seed, run in sorted(self.runs.items())}

    @property
    def measure(self) -> Measure:
        """What its students are judged by; there must be a run."""
        return next(iter(self.runs.values())).measure

    def main_scores(self, split: str = "test") -> list[float]:
        """The scores of that measure, in the order of the seeds."""
        scores = (run.main_score(split) for _, run in sorted(self.runs.items()))
        return [score for score in scores if score is not None]

    @property
    def seedless(self) -> bool:
        """Whether the method has nothing random, so that one run says all."""
        return any((run.result or {}).get("random") is False for run in self.runs.values())

    @property
    def typical(self) -> Run | None:
        """The run whose main score is the median of the seeds' (the lower of two): the one that figures show."""
        scores = ((run.main_score(), seed) for seed, run in self.runs.items())
        scored = sorted((score, seed) for score, seed in scores if score is not None)
        return self.runs[scored[(len(scored) - 1) // 2][1]] if scored else None


def traits(run: Run) -> Traits:
    """What a run's settings make it; the run must have its settings."""
    task, teacher, student, objective = (run.config[key] for key in ("task", "teacher", "student", "objective"))
    return Traits(
        task=task,
        datasets=run.datasets,
        student={"sentiment": student_name(student["model"]), "retrieval": "EICS-style"}.get(task, task),
        frozen=bool(student["frozen"]),
        teacher=teacher is not None,
        face=teacher is not None and bool(teacher["face"]),
        prompting=teacher is not None and bool(teacher["prompting"]),
        variant=objective["variant"] if teacher is not None else "alone",
        sides=run.config.get("retrieval", {}).get("sides", "both"),
        method=run.config.get("method", "ours"),
    )


def student_name(model: str) -> str:
    """`RoBERTa-Large` for a hub name or folder of that model, else the last part of the name."""
    parts = [part for part in PurePosixPath(model.removeprefix("package:")).parts if part not in ("model", "student")]
    name = parts[-1] if parts else model
    for part, known in STUDENTS.items():
        if part in name.lower() and "distil" not in name.lower():
            return known
    return name


def shown(datasets: Iterable[str]) -> str:
    """Names of datasets as tables print them: MOSI+MOSEI."""
    return "+".join(name.upper() if name in ("mosi", "mosei", "vegas") else name for name in datasets)


def slug(text: str) -> str:
    """A text as part of a file name."""
    return "-".join("".join(char if char.isalnum() else " " for char in text.lower()).split())


def group(runs: Iterable[Run]) -> list[Group]:
    """Sort runs into groups; runs without settings are left out."""
    groups: dict[str, Group] = {}
    for run in runs:
        if not run.config:
            continue
        kind, settings = traits(run), _settings(run.config)
        key = json.dumps([kind.task, kind.datasets, settings], sort_keys=True, default=str)
        _add(groups.setdefault(key, Group(traits=kind, settings=settings)), run)
    found = list(groups.values())
    for one in found:
        _compare_sizes(one)
    return found


def differing(groups: Iterable[Group]) -> list[str]:
    """Settings in which the groups are not all alike, sorted."""
    settings = [one.settings for one in groups]
    keys = sorted(set().union(*settings))
    return [key for key in keys if len({json.dumps(s.get(key), default=str) for s in settings}) > 1]


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    if not isinstance(settings, Mapping) or not settings:
        return {prefix.rstrip("."): settings}
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.")
    return found


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in flat(config).items() if key not in FREE}
    # Sweeps copy the DeepSpeed JSON, and the stages of ZeRO give the same numbers; the number formats do not.
    preset = PurePosixPath(str(settings.get("deepspeed", ""))).name
    settings["deepspeed"] = "float32" if preset.startswith("zero") else preset
    if config["teacher"] is None:
        # What distils from a teacher says nothing where there is none.
        settings.pop("objective.variant", None)
    return settings


def _add(group: Group, run: Run) -> None:
    seed = run.seed
    if seed is None:
        group.remarks.append(f"{run.name}: {run.problem or 'no seed'}")
    elif not run.finished:
        if seed not in group.runs:
            group.problems[seed] = f"{run.name}: {run.problem}"
    elif seed in group.runs:
        group.remarks.append(f"seed {seed} was run twice; {group.runs[seed].name} counts, {run.name} does not")
    else:
        group.runs[seed] = run
        group.problems.pop(seed, None)


def _compare_sizes(group: Group) -> None:
    sizes = {seed: run.score(run.measure.output, "n") for seed, run in sorted(group.runs.items())}
    if len(set(sizes.values())) > 1:
        group.remarks.append(
            "test sizes differ: " + ", ".join(f"{size:g} (seed {seed})" for seed, size in sizes.items() if size)
        )
