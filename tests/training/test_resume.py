"""Resumed equals uninterrupted, bit for bit; on another number of ranks, to rounding."""

from __future__ import annotations

import functools
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_runs import Ranks, changed, lines, logged, numbers, samples


def in_parts(ranks: Ranks, settings: dict[str, Any], run: Path, parts: list[tuple[int, int]]) -> None:
    """Train until each step count on so many ranks, one attempt after the other."""
    for steps, world in parts:
        assert ranks.train(changed(settings, train={"max_steps": steps}), run, world=world) == 0


def whole(ranks: Ranks, settings: dict[str, Any], run: Path, steps: int, world: int = 2) -> None:
    assert ranks.train(changed(settings, train={"max_steps": steps}), run, world=world) == 0


# Steps per epoch: 4 (some 45 clips, 12 a step). Mid-epoch, at an epoch's end, in epoch 1, a second resume, the epoch after.
PARTS = [2, 4, 6, 9]


def of_stage(tiny: dict[str, Any], stage: int) -> dict[str, Any]:
    """Settings of a run under a ZeRO stage, with accumulation on one, two and three ranks."""
    train = {"epochs": 3, "micro_batch_size": 2, "evaluate_every": 3}
    return changed(tiny, deepspeed=f"configs/deepspeed/zero{stage}.json", train=train, log={"samples": True})


@pytest.fixture(scope="module")
def unbroken(ranks: Ranks, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The run of a ZeRO stage on two ranks that nothing breaks; each is made once."""

    @functools.cache
    def run(stage: int) -> Path:
        made = tmp_path_factory.mktemp(f"unbroken-{stage}") / "run"
        whole(ranks, of_stage(tiny, stage), made, PARTS[-1])
        return made

    return run


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_resumed_equals_uninterrupted_for_each_zero_stage(
    ranks: Ranks, tiny: dict[str, Any], unbroken: Callable[[int], Path], tmp_path: Path, stage: int
) -> None:
    in_parts(ranks, of_stage(tiny, stage), tmp_path / "run", [(steps, 2) for steps in PARTS])
    assert numbers(tmp_path / "run") == numbers(unbroken(stage))
    assert samples(tmp_path / "run") == samples(unbroken(stage))


@pytest.mark.parametrize("variant", ["crd", "fitnet", "pkt", "none"])
def test_resumed_equals_uninterrupted_for_each_variant(
    ranks: Ranks, tiny: dict[str, Any], tmp_path: Path, variant: str
) -> None:
    settings = changed(tiny, objective={"variant": variant}, train={"evaluate_every": 3, "epochs": 3})
    whole(ranks, settings, tmp_path / "a", 6)
    in_parts(ranks, settings, tmp_path / "b", [(3, 2), (6, 2)])
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")


MOVES = {
    "2 to 1 to 2": [(2, 2), (4, 1), (6, 2)],
    "1 to 2": [(3, 1), (6, 2)],
    "2 to 3 to 1": [(2, 2), (4, 3), (6, 1)],
}


@pytest.mark.parametrize(
    ("stage", "moves"),
    [(1, "2 to 1 to 2"), (2, "2 to 1 to 2"), (3, "2 to 1 to 2"), (1, "1 to 2"), (3, "2 to 3 to 1")]
    + [
        pytest.param(s, m, marks=pytest.mark.slow)
        for s, m in [(2, "1 to 2"), (3, "1 to 2"), (1, "2 to 3 to 1"), (2, "2 to 3 to 1")]
    ],
)
def test_another_number_of_ranks_goes_on_with_the_same_samples_and_losses(
    ranks: Ranks, tiny: dict[str, Any], unbroken: Callable[[int], Path], tmp_path: Path, stage: int, moves: str
) -> None:
    in_parts(ranks, of_stage(tiny, stage), tmp_path / "run", MOVES[moves])
    whole_losses, losses = numbers(unbroken(stage)), numbers(tmp_path / "run")
    assert list(losses) == [1, 2, 3, 4, 5, 6]
    for step in losses:
        assert losses[step]["loss"] == pytest.approx(whole_losses[step]["loss"], rel=1e-5), step
    assert samples(tmp_path / "run") == dict(sorted(samples(unbroken(stage)).items())[:6])


def test_a_memory_survives_a_change_of_ranks(ranks: Ranks, tiny: dict[str, Any], tmp_path: Path) -> None:
    settings = changed(tiny, objective={"variant": "crd"}, train={"evaluate_every": 3, "epochs": 3})
    whole(ranks, settings, tmp_path / "a", 4)
    in_parts(ranks, settings, tmp_path / "b", [(2, 2), (4, 1)])
    a, b = logged(tmp_path / "a"), logged(tmp_path / "b")
    for step in a:
        assert a[step]["crd"] == pytest.approx(b[step]["crd"], rel=1e-4), step


def test_a_finished_run_is_left_alone(ranks: Ranks, tiny: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    whole(ranks, tiny, run, 3)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    whole(ranks, tiny, run, 3)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before


def test_another_configuration_is_refused_with_the_keys(ranks: Ranks, tiny: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    whole(ranks, tiny, run, 1)
    answer = ranks.train(changed(tiny, seed=5, train={"lr": 0.5}), run)
    assert "seed was 1, is 5" in answer and "train.lr was 0.001, is 0.5" in answer and "\n" not in answer


def test_never_refuses_a_folder_that_holds_a_run(ranks: Ranks, tiny: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    whole(ranks, tiny, run, 1)
    answer = ranks.train(tiny, run, resume="never")
    assert answer.startswith("ValueError: --resume never") and "step 1" in answer


def test_the_recorded_configuration_repeats_the_run(ranks: Ranks, tiny: dict[str, Any], tmp_path: Path) -> None:
    from dataclasses import asdict

    from vadv.config_file import load

    whole(ranks, tiny, tmp_path / "a", 3)
    again = asdict(load(tmp_path / "a" / "config.yaml"))
    assert ranks.train(again, tmp_path / "b") == 0
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")


@pytest.fixture(scope="module")
def damaged_shards(sample_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample shards with two clips whose bytes are garbage."""
    folder = tmp_path_factory.mktemp("damaged") / "shards"
    shutil.copytree(sample_shards, folder)
    tar = sorted((folder / "train").glob("*.tar"))[0]
    with tarfile.open(tar) as archive:
        clips = [member for member in archive if member.name.endswith(".mp4")][1:3]
    with tar.open("r+b") as file:
        for clip in clips:
            file.seek(clip.offset_data)
            file.write(bytes(clip.size))
    return folder


def test_resumed_equals_uninterrupted_with_bad_samples(
    ranks: Ranks, tiny: dict[str, Any], damaged_shards: Path, tmp_path: Path
) -> None:
    data = {"shards": str(damaged_shards), "max_bad_fraction": 0.5}
    settings = changed(tiny, data=data, train={"evaluate_every": 3, "epochs": 3})
    whole(ranks, settings, tmp_path / "a", 6)
    in_parts(ranks, settings, tmp_path / "b", [(3, 2), (6, 2)])
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    bad = [
        sorted((line["epoch"], line["step"], line["id"]) for line in lines(run / "bad_samples.jsonl"))
        for run in (tmp_path / "a", tmp_path / "b")
    ]
    assert bad[0] == bad[1] and len({ids for _, _, ids in bad[0]}) == 2


def test_too_many_bad_samples_stop_all_ranks_with_the_list(
    ranks: Ranks, tiny: dict[str, Any], damaged_shards: Path, tmp_path: Path
) -> None:
    settings = changed(tiny, data={"shards": str(damaged_shards), "max_bad_fraction": 0.0})
    assert ranks.train(settings, tmp_path / "run") == 3
    assert "clips could not be read in epoch 1" in ranks.log.read_text()


def test_resumed_equals_uninterrupted_with_combined_sets(
    ranks: Ranks, tiny: dict[str, Any], sample_shards: Path, damaged_shards: Path, tmp_path: Path
) -> None:
    data = {"shards": [str(sample_shards), str(damaged_shards)], "max_bad_fraction": 0.5}
    settings = changed(tiny, data=data, train={"evaluate_every": 3, "epochs": 3}, log={"samples": True})
    whole(ranks, settings, tmp_path / "a", 9)
    in_parts(ranks, settings, tmp_path / "b", [(4, 2), (9, 2)])
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    assert samples(tmp_path / "a") == samples(tmp_path / "b")
