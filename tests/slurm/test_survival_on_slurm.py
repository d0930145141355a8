"""Whatever ends an attempt, the point goes on from its last checkpoint, in its folder, or says why it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sweeping import Client, ToySweep, until
from toy import expected, losses


def name(point: str) -> str:
    return f"{point}_seed-1"


@pytest.fixture(scope="module")
def limited(slurm: Client, tmp_path_factory: pytest.TempPathFactory) -> ToySweep:
    """Two points with a time limit of a minute, launched and left alone; one of them does not listen to signals."""
    slurm_settings = {"time": 1, "signal_delay": 45, "sbatch": {"nodelist": "n1"}}  # n2 will fail meanwhile
    sweep = ToySweep(
        tmp_path_factory.mktemp("limited") / "sweep", points={"heard": {}, "deaf": {}}, slurm=slurm_settings
    )
    for point in ("heard", "deaf"):
        sweep.order(f"hold-{name(point)}-3")
    sweep.order(f"deaf-{name('deaf')}")
    slurm.sweep(*sweep.words, "--executor", "slurm", "--no-wait")
    return sweep


@pytest.fixture(scope="module")
def storm(slurm: Client, limited: ToySweep, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ToySweep, str]]:
    """A sweep to whose points everything happens, run to its end, and what the launch printed."""
    points: dict[str, Any] = {"killed": {}, "failing": {}, "refused": {}, "requeued": {}, "taken": {}}
    sweep = ToySweep(tmp_path_factory.mktemp("storm") / "sweep", points=points, retries=1)
    sweep.order(f"die-{name('killed')}-3")
    sweep.order(f"raise-{name('failing')}-2")
    sweep.order(f"refuse-{name('refused')}-2")
    holds = [sweep.order(f"hold-{name(point)}-3") for point in ("requeued", "taken")]
    launch = slurm.start(*sweep.words, "--executor", "slurm", "--every", 0.5)
    for point in ("requeued", "taken"):
        until(lambda point=point: sweep.at_step(name(point), 3), f"{point} at step 3")
    slurm.slurm("scancel", sweep.record(name("taken"))["job"])
    for attempt in (2, 3):
        slurm.slurm("scontrol", "requeue", sweep.record(name("requeued"))["job"])
        until(lambda attempt=attempt: sweep.record(name("requeued"))["attempts"] == attempt, f"attempt {attempt}")
    for hold in holds:
        hold.unlink()
    output = slurm.finish(launch, code=1)
    yield sweep, output


def test_a_killed_rank_goes_on_from_its_checkpoint_in_the_same_job(storm: tuple[ToySweep, str]) -> None:
    record = storm[0].record(name("killed"))
    assert record["state"] == "finished"
    assert [(entry["cause"], entry["step"]) for entry in record["history"]] == [
        ("killed by SIGKILL", 3),
        ("finished", 5),
    ]
    assert len({entry["job"] for entry in record["history"]}) == 1
    assert losses(storm[0].run(name("killed"))) == expected(1, 5)


def test_a_job_that_was_requeued_twice_goes_on_from_its_checkpoint_in_the_same_job(
    storm: tuple[ToySweep, str],
) -> None:
    record = storm[0].record(name("requeued"))
    assert record["state"] == "finished" and record["errors"] == 0 and record["attempts"] == 3
    assert len({entry["job"] for entry in record["history"]}) == 1
    assert losses(storm[0].run(name("requeued"))) == expected(1, 5)


def test_a_failing_point_stops_after_its_retries_and_shows_its_error(
    slurm: Client, storm: tuple[ToySweep, str]
) -> None:
    sweep, output = storm
    assert "RuntimeError: no luck at step 2" in output
    record = sweep.record(name("failing"))
    assert record["state"] == "failed" and record["attempts"] == 2
    assert "Traceback" in record["history"][-1]["error"]
    status = slurm.sweep("--status", sweep.out)
    (line,) = (text for text in status.splitlines() if text.startswith(name("failing")))
    assert line.endswith("RuntimeError: no luck at step 2") and "failed" in line
    assert 'raise RuntimeError(f"no luck' in slurm.sweep("--logs", sweep.out, "--point", name("failing"))


def test_wrong_input_is_not_tried_again(storm: tuple[ToySweep, str]) -> None:
    record = storm[0].record(name("refused"))
    assert (record["state"], record["attempts"]) == ("failed", 1)
    assert record["error"] == "ValueError: data.shards: expected a folder, found none"


def test_a_cancelled_job_does_not_put_itself_back(storm: tuple[ToySweep, str]) -> None:
    record = storm[0].record(name("taken"))
    assert (record["state"], record["attempts"]) == ("cancelled", 1)


def test_failed_and_cancelled_points_are_taken_up_when_asked_to(slurm: Client, storm: tuple[ToySweep, str]) -> None:
    sweep, _ = storm
    (sweep.control / f"raise-{name('failing')}-2").unlink()
    (sweep.control / f"refuse-{name('refused')}-2").unlink()
    output = slurm.sweep("--retry-failed", sweep.out, "--executor", "slurm", "--every", 0.5)
    assert "3 points submitted" in output and "5 finished" in output
    for point in ("failing", "refused", "taken"):
        assert losses(sweep.run(name(point))) == expected(1, 5)
    assert sweep.record(name("failing"))["error"] == "RuntimeError: no luck at step 2"


def test_cancel_ends_waiting_and_running_points(slurm: Client, tmp_path: Path) -> None:
    sweep = ToySweep(tmp_path / "cancel", seeds=[1, 2, 3], slurm={"array_parallelism": 2})
    for seed in (1, 2):
        sweep.order(f"hold-base_seed-{seed}-1")
    launch = slurm.start(*sweep.words, "--executor", "slurm", "--every", 0.5)
    until(lambda: len(sweep.events("start")) == 2, "two points")
    jobs = {sweep.record(f"base_seed-{seed}")["job"] for seed in (1, 2, 3)}
    assert "3 points cancelled" in slurm.sweep("--cancel", sweep.out)
    slurm.finish(launch, code=1)
    until(lambda: not jobs & set(slurm.slurm("squeue", "-h", "-r", "-o", "%i").split()), "the end of the jobs")
    assert {sweep.state(f"base_seed-{seed}") for seed in (1, 2, 3)} == {"cancelled"}


def test_a_node_that_fails_costs_only_the_steps_since_the_last_checkpoint(slurm: Client, tmp_path: Path) -> None:
    sweep = ToySweep(tmp_path / "node", slurm={"sbatch": {"nodelist": "n2"}})
    hold = sweep.order("hold-base_seed-1-3")
    launch = slurm.start(*sweep.words, "--executor", "slurm", "--every", 0.5)
    until(lambda: sweep.at_step("base_seed-1", 3), "step 3")
    slurm.lab("kill-node n2")
    slurm.lab("start-node n2")
    hold.unlink()
    slurm.finish(launch)
    record = sweep.record("base_seed-1")
    assert record["attempts"] == 2 and record["errors"] == 0
    assert losses(sweep.run("base_seed-1")) == expected(1, 5)


@pytest.mark.parametrize("point", ["heard", "deaf"])
def test_the_time_limit_puts_a_point_back(limited: ToySweep, point: str) -> None:
    until(lambda: limited.record(name(point))["attempts"] >= 2, "the second attempt")
    (limited.control / f"hold-{name(point)}-3").unlink()
    until(lambda: limited.state(name(point)) == "finished", "the end")
    *stops, last = [entry["cause"] for entry in limited.record(name(point))["history"]]
    assert set(stops) == {"time limit"} and last == "finished"
    assert losses(limited.run(name(point))) == expected(1, 5)
