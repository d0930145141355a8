"""The real trainer on a real Slurm: DeepSpeed's ranks are tasks of a job, and preemption changes no number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweeping import ROOT, Client, ToySweep, until
from training_runs import logged, numbers

STEPS = 16


@pytest.fixture(scope="module")
def base(sample_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small whole run of STEPS optimizer steps."""
    settings = {
        "data": {"shards": str(sample_shards), "workers": 0, "frames": 2},
        "teacher": {"clip": str(ROOT / "configs" / "clip" / "tiny.json"), "weights": "random"},
        "student": {"model": "tiny-roberta", "weights": "random"},
        "train": {
            "epochs": 2,
            "max_steps": STEPS,
            "batch_size": 4,
            "lr": 1e-3,
            "warmup_steps": 2,
            "evaluate_every": 2,
        },
        "log": {"every": 1},
        "deepspeed": str(ROOT / "configs" / "deepspeed" / "zero1.json"),
    }
    path = tmp_path_factory.mktemp("base") / "small.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


class RealSweep(ToySweep):
    """A sweep of the real trainer, one point."""

    def __init__(self, folder: Path, base: Path, **slurm: Any) -> None:
        folder.mkdir(parents=True)
        self.out, self.file = folder / "sweep", folder / "real.yaml"
        settings = {"gpus_per_node": 0, "cpus_per_task": 1, "time": 60, "signal_delay": 30, **slurm}
        self.file.write_text(yaml.safe_dump({"base": str(base), "slurm": settings, "local": {"ranks": 2}}))

    @property
    def only(self) -> Path:
        return self.run("base_seed-1")


@pytest.fixture(scope="module")
def unbroken(slurm: Client, base: Path, tmp_path_factory: pytest.TempPathFactory) -> RealSweep:
    """A job with two tasks that nothing happens to."""
    sweep = RealSweep(tmp_path_factory.mktemp("unbroken") / "sweep", base, tasks_per_node=2)
    slurm.sweep(*sweep.words, "--executor", "slurm", "--every", 0.5)
    return sweep


def test_two_tasks_of_a_job_are_two_ranks_of_deepspeed(unbroken: RealSweep) -> None:
    assert unbroken.state("base_seed-1") == "finished" and len(numbers(unbroken.only)) == STEPS
    environment = json.loads((unbroken.only / "environment.json").read_text())
    assert environment["world_size"] == 2
    assert Path(environment["copy"]).parent == unbroken.out / "code" and environment["commit"]
    assert (unbroken.only / "checkpoints" / f"step-{STEPS}").is_dir()


def test_two_nodes_preempted_and_requeued_give_the_numbers_of_the_unbroken_run(
    slurm: Client, base: Path, unbroken: RealSweep, tmp_path: Path
) -> None:
    sweep = RealSweep(tmp_path / "nodes", base, nodes=2, tasks_per_node=1)
    launch = slurm.start(*sweep.words, "--executor", "slurm", "--every", 0.5)
    metrics = sweep.only / "metrics.jsonl"
    until(lambda: metrics.exists() and len(logged(sweep.only)) >= 3, "three steps")
    slurm.slurm("sbatch", "-p", "high", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "true")
    slurm.finish(launch)
    record = sweep.record("base_seed-1")
    assert [entry["cause"] for entry in record["history"]] == ["preempted", "finished"]
    assert 0 < record["history"][0]["step"] < STEPS
    assert numbers(sweep.only) == numbers(unbroken.only)


def test_several_ranks_submitted_by_hand_save_on_the_signal_and_are_requeued(
    slurm: Client, base: Path, unbroken: RealSweep, tmp_path: Path
) -> None:
    """The second script of docs/cluster.md, with the signal sent at once and not at a time limit."""
    script = tmp_path / "job.sh"
    page = (ROOT / "docs" / "cluster.md").read_text()
    requeue = "[ $? -eq 75 ] && scontrol requeue ${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    assert requeue in page
    train = f"srun {slurm.python} {ROOT}/launch/train.py --config {base} --seed 1"
    script.write_text(f"#!/bin/bash\n{train}\n{requeue}\n")
    where = ["--array=0-0", f"--chdir={tmp_path}", "--cpus-per-task=1", "--ntasks=2", "--requeue"]
    job = slurm.slurm("sbatch", "--parsable", *where, "-o", "log", "--open-mode=append", script).strip()
    run, log = tmp_path / "runs" / "small-0", tmp_path / "log"
    until(lambda: (run / "metrics.jsonl").exists() and len(logged(run)) >= 3, "three steps")
    slurm.slurm("scancel", "--signal=USR1", f"{job}_0")
    until(slurm.idle, "the end of the job")
    assert (run / "result.json").is_file(), log.read_text()
    assert "resuming from" in log.read_text()
    assert numbers(run) == numbers(unbroken.only)


def test_a_job_array_submitted_by_hand_trains_a_seed_per_element(slurm: Client, base: Path, tmp_path: Path) -> None:
    command = f"{slurm.python} {ROOT}/launch/train.py --config {base} --train.max_steps 2 --seed $SLURM_ARRAY_TASK_ID"
    slurm.slurm("sbatch", "--array=0-1", f"--chdir={tmp_path}", "--cpus-per-task=1", "-o", "%a.log", "--wrap", command)
    until(slurm.idle, "the end of the array")
    for seed in (0, 1):
        result = tmp_path / "runs" / f"small-{seed}" / "result.json"
        assert result.is_file(), (tmp_path / f"{seed}.log").read_text()
        assert json.loads(result.read_text())["seed"] == seed
