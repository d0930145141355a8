"""Signals, bad numbers and lost ranks, on processes of their own: launched as a user launches them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from training_runs import changed, numbers

from vadv.ports import free_port

PREEMPTED, STOPPED, INTERRUPTED = 75, 3, 130


class Launched:
    """`world` ranks of launch/train.py, started directly."""

    def __init__(self, settings: dict[str, Any], run: Path, world: int, *options: str) -> None:
        run.parent.mkdir(parents=True, exist_ok=True)
        config = run.with_suffix(".yaml")
        config.write_text(yaml.safe_dump(settings))
        port = free_port()
        self.run, self.log = run, run.with_suffix(".log")
        self.ranks = []
        for rank in range(world):
            environment = {
                **os.environ,
                **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)},
                **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            }
            command = [sys.executable, "launch/train.py", "--config", str(config), "--run", str(run), *options]
            with self.log.open("ab") as log:
                self.ranks.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
                )

    def until(self, condition: Callable[[], bool], seconds: float = 600) -> None:
        """Wait for a condition on the run's files; fails when the run ends before."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or all(rank.poll() is not None for rank in self.ranks):
                pytest.fail(f"the run did not get so far:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.02)

    def until_step(self, step: int) -> None:
        """Wait until so many steps are logged."""
        self.until(lambda: self.steps() >= step)

    def steps(self) -> int:
        """Steps logged so far."""
        path = self.run / "metrics.jsonl"
        return sum('"train"' in line for line in path.read_text().splitlines()) if path.is_file() else 0

    def codes(self, seconds: float = 600) -> list[int]:
        """Exit codes of all ranks; no process of theirs is left."""
        codes = [rank.wait(seconds) for rank in self.ranks]
        deadline = time.monotonic() + 10
        while left := [p for p in psutil.process_iter(["cmdline"]) if self._ours(p)]:
            if time.monotonic() > deadline:
                pytest.fail(f"left behind: {left}")
            time.sleep(0.05)
        return codes

    def _ours(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) in {rank.pid for rank in self.ranks} and process.status() != "zombie"
        except (OSError, psutil.Error):
            return False

    def kill(self) -> None:
        for rank in self.ranks:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(rank.pid, signal.SIGKILL)
            rank.wait()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    """Starts runs, and ends what is left of them."""
    started: list[Launched] = []

    def start(settings: dict[str, Any], name: str, world: int = 2, *options: str) -> Launched:
        started.append(Launched(settings, tmp_path / name / "run", world, *options))
        return started[-1]

    yield start
    for run in started:
        run.kill()


def test_signals_to_one_rank_each_save_once_and_the_run_goes_on_bit_for_bit(
    launch: Callable[..., Launched], tiny: dict[str, Any]
) -> None:
    settings = changed(tiny, train={"epochs": 8, "max_steps": 20, "evaluate_every": 8})
    step = 0
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
        run, enough = launch(settings, "stopped"), step + 2
        run.until_step(enough)
        run.ranks[1].send_signal(number)
        assert run.codes() == [PREEMPTED, PREEMPTED]
        text = run.log.read_text()
        assert f"stopped by {number.name} after step" in text and "Traceback" not in text
        step = max(int(p.name.removeprefix("step-")) for p in (run.run / "checkpoints").glob("step-*"))
        assert run.steps() == step >= enough, "the checkpoint is of the last step taken"

    again = launch(settings, "stopped")
    whole = launch(settings, "whole")
    assert again.codes() == [0, 0] and whole.codes() == [0, 0]
    assert numbers(again.run) == numbers(whole.run) and len(numbers(whole.run)) == 20


def test_a_signal_while_libraries_load_leaves_without_harm(
    launch: Callable[..., Launched], tiny: dict[str, Any]
) -> None:
    run = launch(tiny, "early", 1)
    run.until(lambda: (run.run / ".ranks" / "0.json").is_file())
    run.ranks[0].send_signal(signal.SIGTERM)
    assert run.codes() == [PREEMPTED]
    assert "Traceback" not in run.log.read_text()


def test_a_second_interrupt_leaves_at_once(launch: Callable[..., Launched], tiny: dict[str, Any]) -> None:
    run = launch(changed(tiny, train={"epochs": 50}), "twice", 1)
    run.until_step(2)
    run.ranks[0].send_signal(signal.SIGSTOP)  # both arrive before the step under way can end
    run.ranks[0].send_signal(signal.SIGINT)
    run.ranks[0].send_signal(signal.SIGCONT)
    run.until(lambda: run.ranks[0].poll() is not None or _handled(run.ranks[0].pid))
    run.ranks[0].send_signal(signal.SIGINT)
    assert run.codes()[0] in (INTERRUPTED, PREEMPTED)


def _handled(pid: int) -> bool:
    """Whether no signal is pending for a process."""
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "ShdPnd:\t0000000000000000" in status.read_text()


def test_a_killed_rank_ends_the_run_with_a_line_that_names_it(
    launch: Callable[..., Launched], tiny: dict[str, Any]
) -> None:
    run = launch(changed(tiny, train={"epochs": 50}), "killed")
    run.until_step(3)
    run.ranks[1].kill()
    assert run.codes(300)[0] == STOPPED
    text = run.log.read_text()
    assert f"rank 1 (process {run.ranks[1].pid}" in text and "is gone" in text and "Traceback" not in text


def test_a_frozen_rank_ends_the_run_with_a_line_that_names_it(
    launch: Callable[..., Launched], tiny: dict[str, Any]
) -> None:
    run = launch(changed(tiny, train={"epochs": 50, "stall_timeout": 12}), "frozen")
    run.until_step(3)
    run.ranks[1].send_signal(signal.SIGSTOP)
    codes = run.codes(300)
    assert codes == [STOPPED, -signal.SIGKILL]
    assert f"rank 1 (process {run.ranks[1].pid}" in run.log.read_text()


def test_non_finite_numbers_stop_all_ranks_before_the_update(
    launch: Callable[..., Launched], tiny: dict[str, Any]
) -> None:
    # A learning rate that blows the weights up makes a non-finite loss within a few steps.
    run = launch(changed(tiny, train={"epochs": 20, "lr": 1e18, "warmup_steps": 1}), "nan")
    assert run.codes() == [STOPPED, STOPPED]
    text = run.log.read_text()
    assert "has non-finite numbers in" in text and "its samples: " in text and "Traceback" not in text
    assert text.count("stopped:") == 1


def test_bad_steps_are_skipped_and_logged_when_allowed(launch: Callable[..., Launched], tiny: dict[str, Any]) -> None:
    run = launch(
        changed(tiny, train={"epochs": 20, "lr": 1e18, "warmup_steps": 1, "skip_bad_steps": 3, "evaluate_every": 20}),
        "skip",
    )
    assert run.codes() == [STOPPED, STOPPED]
    events = [json.loads(line) for line in (run.run / "metrics.jsonl").read_text().splitlines()]
    assert sum(event.get("event") == "skipped step" for event in events) == 4
