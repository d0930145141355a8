"""A two-process run, and the ways to break it.

A fault is a generator: it breaks the run when first asked, and puts back what it damaged on the disk when asked again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from vadv.ports import free_port

STALL, GRACE = 15.0, 60.0
"""Seconds without progress that a run allows itself; seconds after which a trial gives up on it."""
STEPS = 8
"""Steps of a run."""


@dataclass
class Trial:
    """One run to be broken.

    Attributes:
        folder: of this trial: its own copy of the shards, its run, its log.
        random: decides rank and moment.
        settings: of the run.
        zero: ZeRO stage.
        pristine: the shards that its own were copied from.
    """

    number: int
    folder: Path
    random: random.Random
    settings: dict[str, Any]
    zero: int
    pristine: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def steps(self) -> int:
        """Steps logged."""
        path = self.run / "metrics.jsonl"
        return sum('"split": "train"' in line for line in path.read_text().splitlines()) if path.is_file() else 0


class Ranks:
    """Two ranks of a run, each in a session of its own as a launcher would start them."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        port = free_port()
        fork = multiprocessing.get_context("fork")
        self.processes = [fork.Process(target=_rank, args=(trial, rank, port)) for rank in range(2)]
        for process in self.processes:
            process.start()

    def alive(self) -> bool:
        return any(process.is_alive() for process in self.processes)

    def wait(self, seconds: float) -> list[int | None]:
        """Exit codes; as a launcher does, ends the others some time after one has failed."""
        deadline = time.monotonic() + seconds
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
            failed = [p for p in self.processes if p.exitcode not in (None, 0, 75)]
            if failed:
                deadline = min(deadline, time.monotonic() + GRACE)
        return [process.exitcode for process in self.processes]

    def end(self) -> int:
        """Kill what is left; the number of processes that should not have been there."""
        sessions = {process.pid for process in self.processes}
        left = 0
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                    left += 1
                    process.kill()
        for process in self.processes:
            process.join(10)
        return left


def _rank(trial: Trial, rank: int, port: int) -> None:
    os.setsid()
    log = os.open(trial.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
    }
    from vadv.config_file import build
    from vadv.training import train

    try:
        code = train(build(trial.settings), trial.run)
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = 2
    sys.stderr.flush()
    os._exit(code)


def at_random_moment(trial: Trial, ranks: Ranks) -> None:
    """Wait for a random step, then a random part of a step: forward, collective, save, evaluation, the start."""
    step = trial.random.randrange(STEPS)
    while ranks.alive() and trial.steps() < step:
        time.sleep(0.005)
    time.sleep(trial.random.uniform(0, 0.6))


def kill_rank(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """kill -9 of a random rank."""
    at_random_moment(trial, ranks)
    _signal(ranks, trial.random.randrange(2), signal.SIGKILL)
    yield


def kill_while_saving(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """kill -9 of a random rank while checkpoint files are being written."""
    _until(ranks, lambda: any((trial.run / "checkpoints" / ".saving").glob("step-*/*")))
    time.sleep(trial.random.uniform(0, 0.02))
    _signal(ranks, trial.random.randrange(2), signal.SIGKILL)
    yield


def kill_both(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """Power cut: kill -9 of all."""
    at_random_moment(trial, ranks)
    for rank in range(2):
        _signal(ranks, rank, signal.SIGKILL)
    yield


def terminate(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """SIGTERM to both, as a scheduler's preemption."""
    at_random_moment(trial, ranks)
    for rank in range(2):
        _signal(ranks, rank, signal.SIGTERM)
    yield


def terminate_one(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """SIGTERM to one rank only."""
    at_random_moment(trial, ranks)
    _signal(ranks, trial.random.randrange(2), signal.SIGTERM)
    yield


def freeze(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """SIGSTOP of a random rank."""
    _until(ranks, lambda: trial.steps() >= 1)
    at_random_moment(trial, ranks)
    _signal(ranks, trial.random.randrange(2), signal.SIGSTOP)
    yield


def full_disk(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """The file system of the checkpoints is full for a while (a small tmpfs)."""
    _until(ranks, lambda: trial.steps() >= trial.random.randrange(STEPS))
    # The tmpfs mounted by `prepare` has room for a few checkpoints; a file takes the rest.
    stuffing = trial.run / "checkpoints" / "stuffing"
    with contextlib.suppress(OSError), stuffing.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    yield
    stuffing.unlink(missing_ok=True)


def truncated_checkpoint(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """The newest checkpoint loses its tail after a crash."""
    _until(ranks, lambda: len(list((trial.run / "checkpoints").glob("step-*/complete.json"))) >= 2)
    for rank in range(2):
        _signal(ranks, rank, signal.SIGKILL)
    yield
    folders = sorted((trial.run / "checkpoints").glob("step-*"), key=lambda p: int(p.name[5:]))
    victim = trial.random.choice(sorted(folders[-1].glob("*.pt")))
    os.truncate(victim, trial.random.randrange(victim.stat().st_size))


def deleted_shard(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """A shard disappears for a while, and every shard's content with it."""
    at_random_moment(trial, ranks)
    for path in (trial.folder / "shards" / "train").glob("*.tar"):
        with contextlib.suppress(FileNotFoundError):
            os.truncate(path, 0) if trial.random.random() < 0.5 else path.unlink()
    yield
    shutil.copytree(trial.pristine, trial.folder / "shards", dirs_exist_ok=True)


def hung_decoder(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """A decoder process stops answering."""
    victim: list[psutil.Process] = []

    def found() -> bool:
        for process in ranks.processes:
            with contextlib.suppress(psutil.Error):
                victim.extend(p for p in psutil.Process(process.pid).children(recursive=True) if p.children() == [])
        return bool(victim)

    _until(ranks, found)
    at_random_moment(trial, ranks)
    with contextlib.suppress(psutil.Error):
        trial.random.choice(victim).suspend()
    yield


def nan_label(trial: Trial, ranks: Ranks) -> Iterator[None]:
    """Labels on disk turn into NaN under the run."""
    at_random_moment(trial, ranks)
    for path in (trial.folder / "shards" / "train").glob("*.tar"):
        content = path.read_bytes()
        start = content.find(b'"label": ')
        with path.open("r+b") as file:
            while start >= 0:
                file.seek(start)
                file.write(b'"label":NaN,')
                start = content.find(b'"label": ', start + 1)
    yield
    shutil.copytree(trial.pristine, trial.folder / "shards", dirs_exist_ok=True)


FAULTS: list[Callable[[Trial, Ranks], Iterator[None]]] = [
    kill_rank,
    kill_while_saving,
    kill_both,
    terminate,
    terminate_one,
    freeze,
    full_disk,
    truncated_checkpoint,
    deleted_shard,
    hung_decoder,
    nan_label,
]


def _signal(ranks: Ranks, rank: int, number: signal.Signals) -> None:
    pid = ranks.processes[rank].pid
    assert pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _until(ranks: Ranks, condition: Callable[[], bool]) -> None:
    while ranks.alive() and not condition():
        time.sleep(0.002)
