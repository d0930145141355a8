"""A trainer without a model: the same files, signals and exit codes as vadv.training.train, in a second instead of ten.

What happens to it is decided by files in a folder that the configuration names (data.cache_dir), so that a test can
hold a point at a step, or let it fail there, without timing anything:

    hold-NAME-STEP    waits before that step until the file is gone
    raise-NAME-STEP   raises before that step
    refuse-NAME-STEP  the same with an error of the user's
    deaf-NAME         ignores signals
    die-NAME-STEP     kills its own process, once
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from vadv.config import Config

SAVED = 75


def train(config: Config, run: Path, resume: str = "auto", debug: bool = False) -> int:
    """Take config.train.max_steps steps; each value is a function of the one before, so a lost step shows."""
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda received, frame: stop.append(received))
    control = Path(config.data.cache_dir or run)
    control.mkdir(parents=True, exist_ok=True)
    log(control, run.name, "start")
    step, value = restore(run, config.seed)
    while step < (config.train.max_steps or 0):
        deaf = (control / f"deaf-{run.name}").exists()
        while (control / f"hold-{run.name}-{step}").exists() and (deaf or not stop):
            time.sleep(0.05)
        if stop and not deaf:
            save(run, step, value)
            log(control, run.name, f"saved {step}")
            return SAVED
        if (control / f"raise-{run.name}-{step}").exists():
            log(control, run.name, "raised")
            raise RuntimeError(f"no luck at step {step}")
        if (control / f"refuse-{run.name}-{step}").exists():
            raise ValueError("data.shards: expected a folder, found none")
        die = control / f"die-{run.name}-{step}"
        if die.exists():
            die.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        value = int(hashlib.sha256(f"{value}".encode()).hexdigest()[:8], 16)
        step += 1
        line(run, {"step": step, "epoch": 0, "split": "train", "loss": value, "samples_per_second": 100.0})
        if step % (config.train.checkpoint_every or 1) == 0:
            save(run, step, value)
    line(run, {"step": step, "epoch": 0, "split": "valid", "text": {"mae": value / 2**32}})
    found = {"test": {"text": {"mae": value / 2**32}}}
    write(run / "result.json", {"state": "finished", "steps": step, "seed": config.seed, "splits": found})
    log(control, run.name, "end")
    return 0


def restore(run: Path, seed: int) -> tuple[int, int]:
    """Step and value of the newest checkpoint; lines logged after it are cut off, as those steps are taken again."""
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    try:
        name = (run / "checkpoints" / "latest").read_text()
        state = json.loads((run / "checkpoints" / name / "state.json").read_text())
    except OSError:
        state = {"step": 0, "value": seed}
    metrics = run / "metrics.jsonl"
    if metrics.exists():
        kept = [text for text in metrics.read_text().splitlines() if json.loads(text)["step"] <= state["step"]]
        metrics.write_text("".join(text + "\n" for text in kept))
    return state["step"], state["value"]


def save(run: Path, step: int, value: int) -> None:
    folder = run / "checkpoints" / f"step-{step}"
    folder.mkdir(exist_ok=True)
    write(folder / "state.json", {"step": step, "value": value})
    pointer = run / "checkpoints" / ".latest"
    pointer.write_text(folder.name)
    pointer.rename(run / "checkpoints" / "latest")


def write(path: Path, content: Any) -> None:
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(content))
    scratch.rename(path)


def line(run: Path, content: dict[str, Any]) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(content) + "\n")


def log(control: Path, name: str, what: str) -> None:
    """What happened, in the order in which it did, over all points."""
    with (control / "events").open("a") as file:
        file.write(f"{what.split()[0]} {name} {time.time()} {os.environ.get('SLURMD_NODENAME', '-')} {what}\n")


def losses(run: Path) -> list[tuple[int, int]]:
    """(step, value) as metrics.jsonl has them."""
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return [(entry["step"], entry["loss"]) for entry in lines if entry["split"] == "train"]


def expected(seed: int, steps: int) -> list[tuple[int, int]]:
    """What an unbroken run logs."""
    found, value = [], seed
    for step in range(1, steps + 1):
        value = int(hashlib.sha256(f"{value}".encode()).hexdigest()[:8], 16)
        found.append((step, value))
    return found
