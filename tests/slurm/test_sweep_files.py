"""Sweep files: what they expand to, and what they refuse before anything is submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from sweeping import ROOT

from slurm.sample_space import Random
from slurm.settings import Slurm
from slurm.sweep import Point, expand, read_sweep


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a sweep file and expand it."""
    monkeypatch.chdir(ROOT)

    def _points(text: str, ranks: int = 1, **overrides: Any) -> list[Point]:
        file = tmp_path / "sweep.yaml"
        file.write_text(f"base: configs/mosi.yaml\n{text}")
        return expand(read_sweep(file, overrides), ranks)

    return _points


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_expands(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert expand(read_sweep(file), ranks=1)


@pytest.mark.parametrize("table", [2, 5, 6, 7, 9, 10, 12])
def test_every_sentiment_table_has_five_seeds_of_each_row(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    points = expand(read_sweep(ROOT / "configs" / "sweeps" / f"table{table}.yaml"), ranks=1)
    groups = {point.group for point in points}
    assert len(groups) == {2: 2, 5: 3, 6: 3, 7: 7, 9: 3, 10: 4, 12: 3}[table]
    assert len(points) == 5 * len(groups)


@pytest.mark.parametrize(
    ("table", "differing"),
    [
        (4, ["teacher", None]),
        (8, [("both", False), ("visual", True), ("audio", True), ("both", True)]),
        (11, ["kd", "fitnet", "pkt", "step"]),
    ],
)
def test_every_retrieval_table_has_five_seeds_of_each_row(
    table: int, differing: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    points = expand(read_sweep(ROOT / "configs" / "sweeps" / f"table{table}.yaml"), ranks=1)
    found = {
        4: lambda config: "teacher" if config.teacher else None,
        8: lambda config: (config.retrieval.sides, config.teacher is not None),
        11: lambda config: config.objective.variant,
    }[table]
    assert all(point.config.task == "retrieval" for point in points)
    rows = {point.group: found(point.config) for point in points}
    assert sorted(map(str, rows.values())) == sorted(map(str, differing))
    assert sorted((p.group, p.seed) for p in points) == sorted((g, s) for g in rows for s in range(1, 6))


def test_points_axes_and_seeds_multiply(points) -> None:
    found = points("points: {a: {}, b: {teacher: null}}\naxes: {train.lr: [1e-5, 2e-5]}\nseeds: [3, 4]\n")
    assert [point.name for point in found] == [
        f"{name}_lr-{lr}_seed-{seed}" for name in "ab" for lr in ("1e-05", "2e-05") for seed in (3, 4)
    ]
    assert found[-1].config.teacher is None
    assert (found[-1].config.train.lr, found[-1].config.seed, found[-1].group) == (2e-5, 4, "b_lr-2e-05")


def test_an_exclusion_drops_the_points_that_have_all_of_it(points) -> None:
    text = "axes: {train.lr: [1e-5, 2e-5], objective.variant: [step, crd]}\nseeds: [1, 2]\n"
    found = points(
        text + "exclude: [{train.lr: 0.00001, objective.variant: crd}, {objective.variant: step, seed: 2}]\n"
    )
    names = {point.name.removeprefix("lr-") for point in found}
    assert names == {
        "1e-05_variant-step_seed-1",
        "2e-05_variant-step_seed-1",
        "2e-05_variant-crd_seed-1",
        "2e-05_variant-crd_seed-2",
    }


def test_a_value_added_to_an_axis_leaves_the_names_of_the_others(points) -> None:
    before = {point.name for point in points("axes: {train.lr: [1e-5]}\n")}
    assert before < {point.name for point in points("axes: {train.lr: [1e-5, 2e-5]}\n")}


def test_more_trials_leave_the_first_ones_as_they_are(points) -> None:
    space = "space: {train.lr: {low: 1e-6, high: 1e-4, log: true}, train.batch_size: {choices: [4, 8]}}"
    few, many = (points(f"random: {{trials: {n}, {space}}}\n") for n in (5, 9))
    assert [point.overrides for point in few] == [point.overrides for point in many][:5]
    assert len({point.config.train.lr for point in many}) == 9
    assert all(1e-6 <= point.config.train.lr <= 1e-4 for point in many)


def test_random_draws_cover_a_log_range_integers_and_choices_evenly() -> None:
    space = {
        "train.lr": {"low": 1e-6, "high": 1e-2, "log": True},
        "train.warmup_steps": {"low": 1, "high": 3, "integer": True},
        "train.batch_size": {"choices": [4, 8]},
    }
    search = Random(trials=400, space=space)
    drawn = [search.draw(trial) for trial in range(search.trials)]
    decades = [sum(10**-n <= draw["train.lr"] < 10 ** (1 - n) for draw in drawn) for n in (3, 4, 5, 6)]
    assert sum(decades) == 400 and min(decades) > 70
    for key, values in (("train.warmup_steps", [1, 2, 3]), ("train.batch_size", [4, 8])):
        counts = [sum(draw[key] == value for draw in drawn) for value in values]
        assert sum(counts) == 400 and min(counts) > 0.7 * 400 / len(values)


@pytest.mark.parametrize(
    "text, message",
    [
        ("axes: {train.lrr: [1]}\n", "axes: unknown setting train.lrr; did you mean train.lr?"),
        ("axs: {train.lr: [1]}\n", "unknown setting axs; did you mean axes?"),
        ("axes: {train.lr: 3}\n", "axes.train.lr: expected a list of values, found 3"),
        ("points: {a: {student.modl: x}}\n", "points.a: unknown setting student.modl; did you mean student.model?"),
        (
            "axes: {train.epochs: [1, 0]}\n",
            "point epochs-0: configs/mosi.yaml: train.epochs: expected at least 1, found 0",
        ),
        ("axes: {train.batch_size: [4, 5]}\n", "train.batch_size: expected a multiple of world size"),
        ("exclude: [{seed: 9}]\n", "exclude: {'seed': 9} matches no point"),
        ("exclude: [{seed: 1}]\n", "exclude: every point is excluded"),
        ("seeds: [1, 1]\n", "points: 2 points are named base_seed-1"),
        ("random: {trials: 2, space: {train.lr: {low: 3}}}\n", "random.space.train.lr: expected low below high"),
        ("points: {a/b: {}}\n", "points.a/b: expected a name of letters"),
        (
            "points: {a: {base: configs/mosy.yaml}}\n",
            "configs/mosy.yaml: no such configuration file; did you mean configs/mosi",
        ),
        ("slurm: {partitoin: gpu}\n", "unknown setting slurm.partitoin; did you mean slurm.partition?"),
        ("slurm: {sbatch: {nicee: 3}}\n", "slurm.sbatch: unknown parameter nicee; did you mean nice?"),
        ("slurm: {sbatch: {time: 3}}\n", "slurm.sbatch: found time; set slurm.time"),
        ("slurm: {time: soon}\n", "slurm.time: expected minutes, H:M:S or D-H:M:S, found soon"),
        (
            "slurm: {time: 1, signal_delay: 60}\n",
            "slurm.signal_delay: expected more than 0 and less than slurm.time, 60 seconds",
        ),
    ],
)
def test_a_mistake_is_refused_in_one_line_that_names_it(points, text: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        points(text, ranks=2)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, minutes",
    [(90, 90), ("30", 30), ("1:30", 2), ("24:00:00", 1440), ("2-0", 2880), ("1-12:30", 2190), ("1-00:00:01", 1441)],
)
def test_times_are_read_as_sbatch_reads_them(text: Any, minutes: int) -> None:
    assert Slurm(time=text, signal_delay=1).minutes() == minutes


def test_options_of_the_command_override_the_slurm_section(points, tmp_path: Path) -> None:
    points("slurm: {partition: cpu, cpus_per_task: 3}\n")
    sweep = read_sweep(tmp_path / "sweep.yaml", {"slurm.partition": "gpu", "slurm.nodes": "2"})
    assert (sweep.slurm.partition, sweep.slurm.cpus_per_task, sweep.slurm.nodes) == ("gpu", 3, 2)
    assert yaml.safe_load(yaml.safe_dump(sweep.content))["slurm"]["partition"] == "gpu"
