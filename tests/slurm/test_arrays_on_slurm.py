"""Sweeps as job arrays on a real Slurm: everything runs once, no more at a time than allowed, whoever launches."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable

from sweeping import Client, ToySweep, until
from toy import expected, losses


def test_an_array_of_six_runs_two_at_a_time_and_is_never_run_again(
    slurm: Client, toys: Callable[..., ToySweep]
) -> None:
    sweep = toys(seeds=[1, 2, 3, 4, 5, 6], slurm={"array_parallelism": 2})
    holds = [sweep.order(f"hold-base_seed-{seed}-2") for seed in (1, 2)]
    launch = slurm.start(*sweep.words, "--executor", "slurm", "--every", 0.5)
    until(lambda: len(sweep.events("start")) == 2, "two points")
    assert "queued (JobArrayTaskLimit)" in slurm.sweep("--status", sweep.out)
    for hold in holds:
        hold.unlink()
    assert "6 points: 6 finished" in slurm.finish(launch)
    running = most = 0
    for event in sorted(sweep.events(), key=lambda event: float(event[2])):
        running += {"start": 1, "end": -1}[event[0]]
        most = max(most, running)
    assert most == 2
    for seed in range(1, 7):
        assert losses(sweep.run(f"base_seed-{seed}")) == expected(seed, 5)

    summary = json.loads((sweep.out / "sweep.json").read_text())
    assert summary["counts"] == {"finished": 6}
    table = list(csv.DictReader((sweep.out / "sweep.csv").open()))
    assert [row["seed"] for row in table] == list("123456")
    assert float(table[0]["splits.test.text.mae"]) == expected(1, 5)[-1][1] / 2**32

    assert "add --resume" in slurm.sweep(*sweep.words, "--executor", "slurm", code=2)
    assert "0 points submitted" in slurm.sweep(*sweep.words, "--executor", "slurm", "--resume", "--every", 0.5)
    assert len(sweep.events("start")) == 6


def test_arrays_are_split_below_the_sites_limits(slurm: Client, toys: Callable[..., ToySweep]) -> None:
    sweep = toys(seeds=list(range(10)))  # MaxArraySize is 8
    slurm.slurm("sacctmgr", "-i", "-Q", "modify", "user", slurm.user, "set", "MaxSubmitJobs=9")
    try:
        until(slurm.idle, "an empty queue")
        holds = [sweep.order(f"hold-base_seed-{seed}-0") for seed in range(10)]
        output = slurm.sweep(*sweep.words, "--executor", "slurm", "--no-wait")
        assert "9 points submitted, 1 wait for room" in output
        submissions = [json.loads(path.read_text()) for path in (sweep.out / "submissions").glob("*.json")]
        assert sorted(len(entry["points"]) for entry in submissions) == [1, 8]
        for hold in holds:
            hold.unlink()
        output = slurm.sweep(*sweep.words, "--executor", "slurm", "--resume", "--every", 0.5)
        assert "10 points: 10 finished" in output
        assert len(sweep.events("start")) == 10
    finally:
        slurm.slurm("sacctmgr", "-i", "-Q", "modify", "user", slurm.user, "set", "MaxSubmitJobs=-1")


def test_a_launch_that_was_killed_is_taken_up_by_another(slurm: Client, toys: Callable[..., ToySweep]) -> None:
    sweep = toys(seeds=[1, 2, 3, 4], slurm={"array_parallelism": 2})
    hold = sweep.order("hold-base_seed-1-2")
    launch = slurm.start(*sweep.words, "--executor", "slurm", "--every", 0.5)
    until(lambda: len(sweep.events("start")) >= 2, "the first points")
    launch.send_signal(signal.SIGKILL)
    launch.communicate()
    # Also as if it had died between sbatch and writing down the number: the jobs are found by their name.
    (submission,) = (sweep.out / "submissions").glob("*.json")
    entry = json.loads(submission.read_text())
    submission.write_text(json.dumps({**entry, "job": None}))
    waiting = [name for name in entry["points"] if sweep.state(name) == "queued"]
    for name in waiting:
        (sweep.out / "state" / f"{name}.json").unlink()
    resumed = slurm.start(*sweep.words, "--executor", "slurm", "--resume", "--every", 0.5)
    until(lambda: len(sweep.events("end")) >= 3, "the other points")
    hold.unlink()
    assert "0 points submitted" in slurm.finish(resumed)
    assert len(sweep.events("start")) == 4
    for seed in (1, 2, 3, 4):
        assert losses(sweep.run(f"base_seed-{seed}")) == expected(seed, 5)


def test_two_launches_at_the_same_moment_do_not_collide(slurm: Client, toys: Callable[..., ToySweep]) -> None:
    sweep = toys(seeds=[1, 2, 3])
    launches = [slurm.start(*sweep.words, "--executor", "slurm", "--every", 0.5) for _ in range(2)]
    outputs = [launch.communicate(timeout=120) for launch in launches]
    assert sorted(launch.returncode for launch in launches) == [0, 2], outputs
    assert len(sweep.events("start")) == 3
    assert len(list((sweep.out / "submissions").glob("*.json"))) == 1
