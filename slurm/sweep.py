"""A sweep file and the points it stands for.

    base: configs/mosi.yaml            # settings of every point
    set: {train.epochs: 100}           # changes to the base, for all points
    points:                            # explicit points, each a name and its changes (and its own base, if need be)
      ours: {}
      no-faces: {teacher.face: false}
    axes:                              # grid: every combination
      train.lr: [4e-6, 8e-6]
    random: {trials: 20, space: {train.lr: {low: 1e-6, high: 1e-4, log: true}}}
    seeds: [1, 2, 3, 4, 5]
    exclude: [{teacher.face: false, train.lr: 4e-6}]

points x axes x random trials x seeds, less the exclusions. Each point is one run in a folder of its own, whose name is
made of what sets it apart, so that a value added to the file later leaves the folders of the others as they are.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slurm.sample_space import Random
from slurm.settings import Local, Slurm
from vadv.config import Config
from vadv.config_file import check_keys, fill, load, put, read

LONGEST_NAME = 100


@dataclass(kw_only=True)
class Sweep:
    """What a sweep file says."""

    base: str = ""
    """Configuration file that every point starts from; relative to the working directory."""
    name: str
    """Name of the sweep and of its folder in runs/; default: the file's name."""
    description: str = ""
    """One line for people."""
    set: dict[str, Any] = field(default_factory=dict)
    """Settings (dotted) changed for all points."""
    points: dict[str, Any] = field(default_factory=dict)
    """Explicit points: name to settings (dotted); the key `base` gives a point another configuration file."""
    axes: dict[str, Any] = field(default_factory=dict)
    """Grid: setting (dotted) to the list of its values."""
    random: Random | None = None
    """Random search over settings."""
    seeds: list[int] = field(default_factory=lambda: [1])
    """Each point is run with each of these seeds."""
    exclude: list[Any] = field(default_factory=list)
    """Combinations left out: mappings of settings (also `seed`, and `point`: a name); who has all of one is dropped."""
    retries: int = 2
    """Further attempts after an error before a point counts as failed; getting further starts a new count."""
    entry: str = "vadv.training:train"
    """The function that runs a point, module:name, called as train(config, run, resume)."""
    slurm: Slurm = field(default_factory=Slurm)
    """What each point asks of Slurm."""
    local: Local = field(default_factory=Local)
    """How the local executor uses this machine."""
    content: dict[str, Any] = field(init=False, default_factory=dict)
    """The file as it was read, with the overrides."""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("seeds: expected at least one, found none")
        if self.retries < 0:
            raise ValueError(f"retries: expected 0 or more, found {self.retries}")
        if not re.fullmatch(r"[\w.]+:\w+", self.entry):
            raise ValueError(f"entry: expected module:function, found {self.entry}")
        if self.name != _clean(self.name):
            raise ValueError(f"name: expected letters, digits, dots, + and -, found {self.name}")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: of its folder; unique in the sweep.
        group: the name without the seed: runs that a table averages.
        overrides: what the sweep changes of the base, by dotted key, without the seed.
        config: the whole configuration.
    """

    name: str
    group: str
    seed: int
    overrides: dict[str, Any]
    config: Config


def read_sweep(path: Path, overrides: Mapping[str, Any] | None = None) -> Sweep:
    """Read a sweep file.

    Args:
        path: the YAML file.
        overrides: further settings of the sweep by dotted key, such as `slurm.partition`.

    Raises:
        ValueError: unknown key or value of the wrong type.
    """
    content = read(path)
    check_keys(overrides or {}, kind=Sweep)
    for key, value in (overrides or {}).items():
        put(content, key, value)
    content.setdefault("name", _clean(path.stem))
    sweep = fill(Sweep, content, f"{path}: ")
    sweep.content = content
    return sweep


def expand(sweep: Sweep, ranks: int) -> list[Point]:
    """All points of a sweep, each with its checked configuration.

    Args:
        ranks: world size of a point, which the batch arithmetic must fit.

    Raises:
        ValueError: a setting that does not exist, a value out of range, no base, two points of one name, an exclusion
            that excludes nothing. All are found before anything is submitted.
    """
    _check_settings(sweep)
    points: list[Point] = []
    used: Counter[int] = Counter()
    for labels, base, overrides in _combinations(sweep):
        group = _shorten("_".join(_clean(label) for label in labels) or "base")
        config: Config | None = None
        for seed in sweep.seeds:
            whole = {**overrides, "seed": seed, "point": labels[0] if sweep.points else ""}
            dropped = [n for n, rule in enumerate(sweep.exclude) if _matches(rule, whole)]
            used.update(dropped)
            if dropped:
                continue
            config = replace(config or _checked(group, base, overrides, ranks), seed=seed)
            points.append(
                Point(name=f"{group}_seed-{seed}", group=group, seed=seed, overrides=overrides, config=config)
            )
    for n, rule in enumerate(sweep.exclude):
        if not used[n]:
            raise ValueError(f"exclude: {rule} matches no point; mend or remove it")
    if not points:
        raise ValueError("exclude: every point is excluded")
    name, times = Counter(point.name for point in points).most_common(1)[0]
    if times > 1:
        raise ValueError(f"points: {times} points are named {name}; make their settings or seeds differ")
    return points


def _check_settings(sweep: Sweep) -> None:
    """Refuse unknown settings before the grid is built, so that the message names the line and not a point."""
    check_keys(sweep.set, "set: ")
    for key, values in sweep.axes.items():
        check_keys({key: {}}, "axes: ")
        if not isinstance(values, list) or not values:
            raise ValueError(f"axes.{key}: expected a list of values, found {values}")
    for name, changes in sweep.points.items():
        if not isinstance(changes, Mapping) and changes is not None:
            raise ValueError(f"points.{name}: expected a mapping of settings, found {changes}")
        if name != _clean(str(name)):
            raise ValueError(f"points.{name}: expected a name of letters, digits, dots, + and -")
        check_keys({k: v for k, v in (changes or {}).items() if k != "base"}, f"points.{name}: ")
    if sweep.random:
        check_keys({key: {} for key in sweep.random.space}, "random.space: ")
    for rule in sweep.exclude:
        if not isinstance(rule, Mapping) or not rule:
            raise ValueError(f"exclude: expected mappings of settings, found {rule}")
        check_keys({k: {} for k in rule if k not in ("seed", "point")}, "exclude: ")


def _combinations(sweep: Sweep) -> Iterator[tuple[list[str], str, dict[str, Any]]]:
    """Labels, base file and overrides of each combination of explicit point, grid cell and random trial."""
    explicit = sweep.points or {"": {}}
    tails = Counter(key.rsplit(".", 1)[-1] for key in sweep.axes)
    short = {key: tail if tails[tail := key.rsplit(".", 1)[-1]] == 1 else key for key in sweep.axes}
    digits = len(str(sweep.random.trials - 1)) if sweep.random else 1
    for name, changes in explicit.items():
        changes = dict(changes or {})
        base = changes.pop("base", sweep.base)
        if not base:
            raise ValueError("base: expected a configuration file, found none")
        for cell in itertools.product(*sweep.axes.values()):
            for trial in range(sweep.random.trials) if sweep.random else [None]:
                labels = [name] if name else []
                labels += [f"{short[key]}-{_label(value)}" for key, value in zip(sweep.axes, cell)]
                drawn = {}
                if sweep.random and trial is not None:
                    labels.append(f"trial-{trial:0{digits}d}")
                    drawn = sweep.random.draw(trial)
                yield labels, base, {**sweep.set, **changes, **dict(zip(sweep.axes, cell)), **drawn}


def _checked(group: str, base: str, overrides: dict[str, Any], ranks: int) -> Config:
    try:
        config = load(base, overrides)
        config.train.accumulation(ranks)
    except ValueError as error:
        raise ValueError(f"point {group}: {error}") from None
    return config


def _matches(rule: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    return all(key in settings and _label(settings[key]) == _label(value) for key, value in rule.items())


def _label(value: Any) -> str:
    """A value as part of a file's name; 1e-5 read as text by YAML and as a number are the same."""
    if isinstance(value, (list, tuple)):
        return "+".join(_label(part) for part in value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    try:
        return f"{float(value):.6g}"
    except (TypeError, ValueError):
        return str(value).rstrip("/").rsplit("/", 1)[-1]


def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+_-]+", "-", text).strip("-.") or "x"


def _shorten(name: str) -> str:
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
