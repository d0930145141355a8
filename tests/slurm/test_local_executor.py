"""Sweeps as processes of this machine, with the toy trainer; no Slurm needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from sweeping import ROOT, Client, ToySweep, until
from toy import expected, losses


@pytest.fixture
def here() -> Client:
    """A client without any Slurm."""
    return Client({})


LOCAL = ("--executor", "local")


def processes(sweep: ToySweep) -> list[psutil.Process]:
    """Ranks of a sweep that run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(sweep.out) in words and "local" in words:
            found.append(process)
    return found


def test_points_run_a_few_at_a_time_and_once(here: Client, toys: Callable[..., ToySweep]) -> None:
    sweep = toys(seeds=[1, 2, 3], local={"parallel": 2})
    hold = sweep.order("hold-base_seed-1-2")
    launch = here.start(*sweep.words, *LOCAL)
    until(lambda: len(sweep.events("end")) == 2, "the other points")
    hold.unlink()
    assert "3 points: 3 finished" in here.finish(launch)
    for seed in (1, 2, 3):
        assert losses(sweep.run(f"base_seed-{seed}")) == expected(seed, 5)
    assert "add --resume" in here.sweep(*sweep.words, *LOCAL, code=2)
    here.sweep(*sweep.words, *LOCAL, "--resume")
    assert len(sweep.events("start")) == 3
    assert (sweep.out / "sweep.csv").read_text().count("finished") == 3


def test_kills_and_errors_are_tried_again_and_kept(here: Client, toys: Callable[..., ToySweep]) -> None:
    sweep = toys(points={"dies": {}, "fails": {}}, retries=1, local={"parallel": 2})
    sweep.order("die-dies_seed-1-3")
    sweep.order("raise-fails_seed-1-2")
    output = here.sweep(*sweep.words, *LOCAL, code=1)
    assert "1 finished, 1 failed" in output and "RuntimeError: no luck at step 2" in output
    assert losses(sweep.run("dies_seed-1")) == expected(1, 5)
    assert sweep.record("dies_seed-1")["history"][0]["cause"] == "killed by SIGKILL"
    assert sweep.record("fails_seed-1")["attempts"] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_launch_that_ends_leaves_saved_points_for_the_next(
    here: Client, toys: Callable[..., ToySweep], number: signal.Signals
) -> None:
    sweep = toys(seeds=[1, 2])
    hold = sweep.order("hold-base_seed-1-3")
    launch = here.start(*sweep.words, *LOCAL)
    until(lambda: sweep.at_step("base_seed-1", 3), "step 3")
    launch.send_signal(number)
    here.finish(launch, code=-9 if number == signal.SIGKILL else 130)
    until(lambda: not processes(sweep), "the end of the ranks")
    assert sweep.events("saved")
    hold.unlink()
    here.sweep(*sweep.words, *LOCAL, "--resume")
    for seed in (1, 2):
        assert losses(sweep.run(f"base_seed-{seed}")) == expected(seed, 5)
    assert len(sweep.events("start")) == 3


def test_a_second_launch_leaves_running_points_alone(here: Client, toys: Callable[..., ToySweep]) -> None:
    sweep = toys(seeds=[1, 2])
    hold = sweep.order("hold-base_seed-1-1")
    first = here.start(*sweep.words, *LOCAL)
    until(lambda: len(sweep.events("start")) == 1, "the first point")
    second = here.start(*sweep.words, *LOCAL, "--resume")
    until(lambda: len(sweep.events("end")) == 1, "the second point")  # run by the second launch
    hold.unlink()
    here.finish(first)
    second.wait(60)
    assert len(sweep.events("start")) == 2
    for seed in (1, 2):
        assert losses(sweep.run(f"base_seed-{seed}")) == expected(seed, 5)


def test_cancel_stops_a_local_sweep(here: Client, toys: Callable[..., ToySweep]) -> None:
    sweep = toys(seeds=[1, 2])
    sweep.order("hold-base_seed-1-1")
    launch = here.start(*sweep.words, *LOCAL)
    until(lambda: len(sweep.events("start")) == 1, "the first point")
    assert "2 points cancelled" in here.sweep("--cancel", sweep.out)
    here.finish(launch, code=1)
    assert not processes(sweep)
    assert {sweep.state(f"base_seed-{seed}") for seed in (1, 2)} == {"cancelled"}


def test_the_debug_executor_runs_here_and_raises(here: Client, toys: Callable[..., ToySweep]) -> None:
    sweep = toys(seeds=[1, 2])
    sweep.order("raise-base_seed-2-2")
    launch = here.start(*sweep.words, "--executor", "debug")
    output = here.finish(launch, code=1)
    assert "RuntimeError: no luck at step 2" in output and "Traceback" in output
    assert [sweep.state(f"base_seed-{seed}") for seed in (1, 2)] == ["finished", "failed"]


def test_jobs_run_the_code_as_it_was_at_submission(here: Client, toys: Callable[..., ToySweep]) -> None:
    sweep = toys(entry="where:train")
    module = sweep.file.parent / "where.py"
    module.write_text(
        "import json, slurm, vadv\n"
        "def train(config, run, resume):\n"
        "    run.mkdir(parents=True)\n"
        "    (run / 'result.json').write_text(json.dumps({'state': 'finished', 'from': [vadv.__file__, slurm.__file__]}))\n"
        "    return 0\n"
    )
    here.env["PYTHONPATH"] += os.pathsep + str(module.parent)
    here.sweep(*sweep.words, *LOCAL)
    (code,) = (sweep.out / "code").iterdir()
    found = json.loads((sweep.run("base_seed-1") / "result.json").read_text())["from"]
    assert found == [str(code / "vadv" / "__init__.py"), str(code / "slurm" / "__init__.py")]
    assert json.loads((code / "commit.json").read_text()).keys() == {"commit", "uncommitted"}


def test_a_changed_sweep_adds_points_and_refuses_changed_ones(here: Client, toys: Callable[..., ToySweep]) -> None:
    sweep = toys(seeds=[1])
    here.sweep(*sweep.words, *LOCAL)
    text = sweep.file.read_text()
    sweep.file.write_text(text.replace("seeds:\n- 1\n", "seeds:\n- 1\n- 2\n"))
    assert "2 points: 2 finished" in here.sweep(*sweep.words, *LOCAL, "--resume")
    assert len(sweep.events("start")) == 2
    sweep.file.write_text(text + "set: {train.lr: 0.5}\n")
    output = here.sweep(*sweep.words, *LOCAL, "--resume", code=2)
    assert "base_seed-1: train.lr was 8e-06, is 0.5" in output


def test_a_dry_run_prints_points_folders_and_the_batch_script_and_does_nothing(
    here: Client, toys: Callable[..., ToySweep]
) -> None:
    settings = {
        "nodes": 2,
        "gpus_per_node": 4,
        "cpus_per_task": 8,
        "mem_gb": 64,
        "partition": "gpu",
        "account": "me",
        "qos": "long",
        "constraint": "a100",
        "time": "1-12:30",
        "signal_delay": 90,
        "array_parallelism": 2,
        "setup": ["module load cuda"],
        "sbatch": {"nice": 7},
    }
    sweep = toys(seeds=[1, 2, 3], slurm=settings, set={"train.batch_size": 8})
    output = here.sweep(*sweep.words, "--executor", "slurm", "--dry-run")
    for part in (
        str(sweep.run("base_seed-2")),
        "seed=2",
        "3 points in",
        "#SBATCH --nodes=2",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --ntasks-per-node=4",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=65536M",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=me",
        "#SBATCH --qos=long",
        "#SBATCH --constraint=a100",
        "#SBATCH --time=2190",
        "#SBATCH --signal=USR2@90",
        "#SBATCH --requeue",
        "#SBATCH --nice=7",
        "#SBATCH --array=0-2%2",
        "module load cuda",
    ):
        assert part in output
    assert not sweep.out.exists()


@pytest.mark.parametrize("executor", ["slurm", "local", "debug"])
def test_a_typo_in_an_axis_is_refused_before_anything_is_done(
    here: Client, toys: Callable[..., ToySweep], executor: str
) -> None:
    sweep = toys(axes={"train.epocs": [1, 2]})
    output = here.sweep(*sweep.words, "--executor", executor, code=2)
    assert "axes: unknown setting train.epocs; did you mean train.epochs?" in output
    assert len(output.strip().splitlines()) == 1 and not sweep.out.exists()


def test_without_slurm_the_executor_says_what_to_use(here: Client, toys: Callable[..., ToySweep]) -> None:
    here.env["PATH"] = "/usr/bin:/bin"
    output = here.sweep(*toys().words, "--executor", "slurm", code=2)
    assert "expected Slurm's commands on PATH, found none; use --executor local or debug" in output


def test_a_run_folder_is_not_taken_for_a_sweep(here: Client, toys: Callable[..., ToySweep], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    sweep = toys()
    output = here.sweep("--sweep", sweep.file, "--out", tmp_path / "run", *LOCAL, code=2)
    assert "expected a folder for a sweep, found one of a run" in output
    assert "no plan.json" in here.sweep("--status", tmp_path / "run", code=2)


def test_help_answers_without_heavy_imports(here: Client) -> None:
    assert "--slurm.partition" in here.sweep("--help")
    code = "import sys; sys.path.insert(0, 'launch'); import sweep; assert not {'torch', 'submitit'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=here.env, check=True)
