"""Fault injection: break two-process runs at random moments in many ways, resume them, compare with the unbroken run.

    make faults                                        100 trials, a table at the end
    python tests/faults/trials.py --trials 10 --seed 7

Each trial is a function of its number and the seed. Ranks are real processes with DeepSpeed, forked from one that has
imported the libraries, since that is most of a short run's time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

STALL, GRACE = 15.0, 60.0
"""Seconds without progress that a run allows itself; seconds after which a trial gives up on it."""
STEPS = 8
NUMBERS = ("loss", "text_mse", "video_mse", "prompt_ce", "prompt_to_video", "video_to_text", "grad_norm", "lr")


@dataclass
class Trial:
    """One run to be broken.

    Attributes:
        folder: of this trial: its own copy of the shards, its run, its log.
        random: decides rank and moment.
        settings: of the run.
        zero: ZeRO stage.
    """

    number: int
    folder: Path
    random: random.Random
    settings: dict[str, Any]
    zero: int

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
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
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


# -- faults: each breaks the run of a trial and returns when it has done so; a generator puts back what it damaged -------


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
    shutil.copytree(SHARED["shards"], trial.folder / "shards", dirs_exist_ok=True)


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
    shutil.copytree(SHARED["shards"], trial.folder / "shards", dirs_exist_ok=True)


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
SHARED: dict[str, Path] = {}


def _signal(ranks: Ranks, rank: int, number: signal.Signals) -> None:
    pid = ranks.processes[rank].pid
    assert pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _until(ranks: Ranks, condition: Callable[[], bool]) -> None:
    while ranks.alive() and not condition():
        time.sleep(0.002)


# -- trials ---------------------------------------------------------------------------------------------------------------


def prepare(number: int, seed: int, folder: Path, shards: Path) -> Trial:
    """A trial's folder and settings."""
    own = random.Random(f"{seed}/{number}")
    folder.mkdir(parents=True)
    shutil.copytree(shards, folder / "shards")
    zero = number // len(FAULTS) % 4
    settings = {
        "data": {
            **{"shards": str(folder / "shards"), "workers": 1, "frames": 2, "frame_size": 32},
            **{"max_bad_fraction": 0.0, "decode_timeout": 4.0},
        },
        "teacher": {"clip": "configs/clip/tiny.json", "weights": "random"},
        "student": {"model": "tiny-roberta", "weights": "random"},
        "train": {
            **{"epochs": 2, "batch_size": 12, "micro_batch_size": 3, "lr": 1e-3, "warmup_steps": 2},
            **{"checkpoint_every": 2, "stall_timeout": STALL},
        },
        "log": {"every": 1},
        "deepspeed": f"configs/deepspeed/zero{zero}.json",
    }
    return Trial(number, folder, own, settings, zero)


def outcome(trial: Trial) -> dict[int, dict[str, float]]:
    """Numbers of each step of a run."""
    lines = [json.loads(line) for line in (trial.run / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["split"] == "train" and "event" not in line]
    return {line["step"]: {name: line[name] for name in NUMBERS if name in line} for line in trained}


def complete(trial: Trial, attempts: int = 4) -> bool:
    """Resume until the run has finished."""
    for _ in range(attempts):
        ranks = Ranks(trial)
        codes = ranks.wait(180)
        ranks.end()
        if codes == [0, 0]:
            return True
    return False


def break_and_resume(trial: Trial, fault: Callable[[Trial, Ranks], Iterator[None]]) -> tuple[bool, bool, str]:
    """Whether the run ended by itself after the fault and finished after a resume; whether bit for bit; a remark."""
    mounted = fault is full_disk and _mount(trial.run / "checkpoints")
    try:
        ranks = Ranks(trial)
        breaking = fault(trial, ranks)
        next(breaking)
        codes = ranks.wait(STALL + GRACE)
        hung = ranks.alive()
        left = ranks.end()
        next(breaking, None)
        survived = complete(trial) and not hung
        same = survived and outcome(trial) == SHARED_OUTCOMES[trial.zero]
        log = (trial.folder / "log").read_text()
        remark = f"codes {codes}"
        if hung:
            remark += f", did not end within {STALL + GRACE:g} s"
        if left and not hung:
            remark += f", {left} process(es) left"
        if "Traceback" in log:
            remark += ", traceback"
        return survived, same, remark
    finally:
        if mounted:
            subprocess.run(["umount", str(trial.run / "checkpoints")], check=False)


SHARED_OUTCOMES: dict[int, dict[int, dict[str, float]]] = {}


def _mount(folder: Path) -> bool:
    """A small file system for the checkpoints; without the right to mount, the disk stays large and nothing breaks."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def run_trials(numbers: list[int], seed: int, shards: Path, folder: Path) -> list[tuple[str, int, bool, bool, str]]:
    """Run trials; (fault, ZeRO stage, survived, bit-identical, remark) of each."""
    import deepspeed  # noqa: F401 - imported before ranks are forked, so that each need not
    import torch.utils.tensorboard  # noqa: F401
    import transformers  # noqa: F401

    import vadv.training.run  # noqa: F401

    SHARED["shards"] = shards
    found = []
    for number in numbers:
        trial = prepare(number, seed, folder / f"trial-{number}", shards)
        if trial.zero not in SHARED_OUTCOMES:
            unbroken = prepare(number, seed, folder / f"unbroken-{trial.zero}", shards)
            assert complete(unbroken, attempts=1), (unbroken.folder / "log").read_text()[-2000:]
            SHARED_OUTCOMES[trial.zero] = outcome(unbroken)
            assert len(SHARED_OUTCOMES[trial.zero]) == STEPS
        fault = FAULTS[number % len(FAULTS)]
        began = time.monotonic()
        survived, same, remark = break_and_resume(trial, fault)
        found.append((fault.__name__, trial.zero, survived, same, remark))
        verdict = "bit-identical" if same else "survived" if survived else "LOST"
        print(
            f"trial {number:3}  zero {trial.zero}  {fault.__name__:20}  {verdict:13}  {remark}  "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        if same:
            shutil.rmtree(trial.folder, ignore_errors=True)
    return found


def main() -> int:
    """Run the trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--shards", type=Path, help="packed sample shards of some 40 training clips; default: made anew"
    )
    parser.add_argument("--folder", type=Path, help="where runs go; those that are not bit-identical stay there")
    options = parser.parse_args()
    os.environ["DS_ACCELERATOR"], os.environ["OMP_NUM_THREADS"] = "cpu", "1"
    folder = options.folder or Path(tempfile.mkdtemp(prefix="videoadviser-faults-"))
    shards = options.shards or _small_corpus(folder)
    found = run_trials(list(range(options.first, options.first + options.trials)), options.seed, shards, folder)
    print(f"\n{'fault':22} trials survived bit-identical")
    for name in [fault.__name__ for fault in FAULTS] + [""]:
        rows = [row for row in found if name in ("", row[0])]
        count = Counter((row[2], row[3]) for row in rows)
        survived, same = sum(n for (s, _), n in count.items() if s), sum(n for (_, i), n in count.items() if i)
        print(f"{name or 'all':22} {len(rows):6} {survived:8} {same:13}")
    return int(not all(row[3] for row in found))


def _small_corpus(folder: Path) -> Path:
    from shards.pack import Options, pack
    from shards.sources import sources

    pack(sources()["sample"](root=folder / "clips", clips=64), folder / "shards", Options(shard_clips=16))
    return folder / "shards"


if __name__ == "__main__":
    sys.exit(main())
