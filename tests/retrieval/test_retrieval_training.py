"""Retrieval under the same engine: ranks do not matter, a run resumes, every variant trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_runs import Ranks, changed, logged, samples

TERMS = {
    "audio_ce",
    "visual_ce",
    "video_ce",
    "prompt_ce",
    "prompt_to_video",
    "video_to_audio",
    "video_to_visual",
    "explicit",
    "implicit",
}


def numbers(run: Path) -> dict[int, dict[str, float]]:
    """Loss and terms of each step."""
    names = {*TERMS, "loss", "grad_norm"}
    return {step: {k: v for k, v in line.items() if k in names} for step, line in logged(run).items()}


def result(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    return content


def close(left: Path, right: Path, tolerance: float = 2e-5) -> None:
    """Two runs logged the same steps with the same numbers, and ended with the same test metrics."""
    a, b = numbers(left), numbers(right)
    assert a.keys() == b.keys() and len(a) >= 4
    for step in a:
        assert a[step] == pytest.approx(b[step], rel=tolerance, abs=tolerance), step
    for split in ("valid", "test"):
        first, second = (result(run)["splits"][split]["students"] for run in (left, right))
        assert first == pytest.approx(second, abs=1e-3)


@pytest.fixture(scope="module")
def taught(ranks: Ranks, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teacher and students in one process."""
    run = tmp_path_factory.mktemp("taught") / "run"
    assert ranks.train(tiny, run, world=1) == 0
    return run


def test_all_terms_are_logged_and_the_result_is_whole(taught: Path) -> None:
    assert all(set(line) >= TERMS for line in numbers(taught).values())
    found = result(taught)
    assert found["task"] == "retrieval" and found["dataset"] == "sample-events" and found["variant"] == "step"
    test = found["splits"]["test"]
    assert {"students", "audio", "visual", "video", "prompt", "scores"} <= set(test)
    assert test["students"]["n"] == 10
    header = (taught / "predictions" / "test.csv").read_text().splitlines()[0]
    assert header.startswith("id,dataset,text,label,audio_0,") and "score_a bell ringing" in header


def test_two_ranks_with_accumulation_equal_one(
    ranks: Ranks, tiny: dict[str, Any], taught: Path, tmp_path: Path
) -> None:
    """30 clips in steps of 8: the last step of an epoch has 6, and slots of the second rank stay empty."""
    from vadv.training.reevaluate import evaluate_folder

    run = tmp_path / "run"
    assert ranks.train(changed(tiny, train={"micro_batch_size": 2}), run, world=2) == 0
    close(taught, run)
    # Two ranks scored these weights; one scores them alike, in every metric.
    for split in ("valid", "test"):
        for output, expected in result(run)["splits"][split].items():
            assert evaluate_folder(run, None, split)[output] == pytest.approx(expected, abs=1e-9), (split, output)


def test_pkt_sees_the_batch_of_all_ranks(ranks: Ranks, tiny: dict[str, Any], tmp_path: Path) -> None:
    settings = changed(tiny, objective={"variant": "pkt"}, train={"max_steps": 4, "epochs": 1})
    assert ranks.train(settings, tmp_path / "one", world=1) == 0
    assert ranks.train(settings, tmp_path / "two", world=2) == 0
    a, b = ({s: line["loss"] for s, line in logged(tmp_path / run).items()} for run in ("one", "two"))
    assert a == pytest.approx(b, rel=2e-5)


def test_a_resumed_run_equals_an_unbroken_one(ranks: Ranks, tiny: dict[str, Any], taught: Path, tmp_path: Path) -> None:
    settings = changed(tiny, train={"checkpoint_every": 1}, log={"every": 1, "samples": True})
    run = tmp_path / "run"
    assert ranks.train(changed(settings, train={"max_steps": 3}), run, world=1) == 0
    (run / "result.json").unlink()
    shutil.rmtree(run / "student")
    (run / "config.yaml").unlink()  # the first part was told to stop early; the second is not
    assert ranks.train(settings, run, world=2, resume="auto") == 0
    close(taught, run)
    per_epoch: dict[int, list[str]] = {}
    for (epoch, _), ids in samples(run).items():
        per_epoch.setdefault(epoch, []).extend(ids)
    assert {epoch: len(set(ids)) for epoch, ids in per_epoch.items()} == {0: 30, 1: 30}


@pytest.mark.parametrize("variant", ["kd", "fitnet", "none", "step-without-first", "crd"])
def test_every_variant_trains(ranks: Ranks, tiny: dict[str, Any], tmp_path: Path, variant: str) -> None:
    settings = changed(tiny, objective={"variant": variant}, train={"max_steps": 2, "epochs": 1})
    assert ranks.train(settings, tmp_path / "run", world=1) == 0
    line = logged(tmp_path / "run")[2]
    assert np.isfinite(line["loss"])
    second = "video_to" if variant == "step-without-first" else variant
    distilled = set() if variant == "none" else {f"{second}_audio", f"{second}_visual"}
    if variant in ("kd", "fitnet", "crd"):
        distilled.add("prompt_to_video")
    labelled = {"audio_ce", "visual_ce", "video_ce", "prompt_ce", "explicit", "implicit"}
    known = {*TERMS, *(f"{name}_{side}" for name in ("kd", "fitnet", "crd", "pkt") for side in ("audio", "visual"))}
    assert known & set(line) == labelled | distilled
    assert all(line[name] > 0 for name in distilled)


def test_features_alone_train_and_are_found(ranks: Ranks, feature_shards: Path, tmp_path: Path) -> None:
    """Classes that both modalities show are retrieved far better than by chance, without any teacher."""
    settings = {
        "task": "retrieval",
        "teacher": None,
        "data": {"shards": str(feature_shards)},
        "train": {"epochs": 12, "batch_size": 16, "lr": 2e-3, "evaluate_every": 4},
    }
    assert ranks.train(settings, tmp_path / "run", world=2) == 0
    found = result(tmp_path / "run")
    assert found["splits"]["test"]["students"]["map_mean"] > 0.8
    assert found["variant"] == "student alone"
    assert set(found["splits"]["test"]) == {"students", "audio", "visual"}


def test_a_damaged_clip_costs_itself(ranks: Ranks, tiny: dict[str, Any], event_shards: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(event_shards, shards)
    from shards.dataset import ClipSet

    place = ClipSet(str(shards), "train").place(0, 2)
    member = place.members["audio.npy"]
    with place.shard.path.open("r+b") as file:
        file.seek(member.offset + member.size - 8)
        file.write(b"\xff" * 8)
    settings = changed(
        tiny,
        data={"shards": str(shards), "max_bad_fraction": 0.2},
        train={"epochs": 1},
    )
    assert ranks.train(settings, tmp_path / "run", world=2) == 0
    bad = [json.loads(line) for line in (tmp_path / "run" / "bad_samples.jsonl").read_text().splitlines()]
    assert len(bad) == 1 and bad[0]["cause"] == "damaged"


def test_evaluate_gives_the_results_own_numbers(taught: Path, feature_shards: Path) -> None:
    from vadv.training.reevaluate import evaluate_folder

    found = evaluate_folder(taught, None, "test")
    assert found["students"] == pytest.approx(result(taught)["splits"]["test"]["students"], abs=1e-6)
