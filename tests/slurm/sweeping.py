"""What tests of sweeps share: a client of the commands, and sweeps of the toy trainer."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def until(ready: Callable[[], Any], what: str, patience: float = 600) -> Any:
    """Wait for something to become true; returns it."""
    deadline = time.monotonic() + patience
    while not (found := ready()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience:.0f} s for {what}")
        time.sleep(0.1)
    return found


class Client:
    """What a person types: commands of this project and of Slurm, in an environment of their own."""

    def __init__(self, env: dict[str, str], lab: subprocess.Popen[str] | None = None) -> None:
        path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        self.env = {**os.environ, **env, "PYTHONPATH": path, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
        self.user, self.python, self._lab = getpass.getuser(), sys.executable, lab

    def start(self, *words: object, **options: Any) -> subprocess.Popen[str]:
        """Start launch/sweep.py."""
        command = [sys.executable, str(ROOT / "launch" / "sweep.py"), *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.env, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, **options)

    def sweep(self, *words: object, code: int = 0) -> str:
        """Run launch/sweep.py to its end; returns what it printed."""
        return self.finish(self.start(*words), code=code)

    def finish(self, process: subprocess.Popen[str], code: int = 0, patience: float = 900) -> str:
        """Wait for a launch to end; returns what it printed. One that takes too long is ended: nothing is left behind."""
        try:
            out, err = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"took more than {patience:.0f} s: {process.args}\n{out}\n{err}")
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return out + err

    def slurm(self, *words: object) -> str:
        """Run a command of Slurm."""
        done = subprocess.run([*map(str, words)], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def lab(self, command: str) -> None:
        """Tell the lab something: `kill-node n1`, `start-node n1`."""
        assert self._lab is not None and self._lab.stdin is not None and self._lab.stdout is not None
        print(command, file=self._lab.stdin, flush=True)
        assert self._lab.stdout.readline() == "DONE\n"

    def idle(self) -> bool:
        """Whether no job is left."""
        return not self.slurm("squeue", "-h").strip()


class ToySweep:
    """A sweep of the toy trainer in a folder of its own."""

    def __init__(self, folder: Path, **content: Any) -> None:
        folder.mkdir(parents=True)
        self.out, self.control = folder / "sweep", folder / "control"
        self.control.mkdir()
        base = folder / "base.yaml"
        base.write_text(yaml.safe_dump({"data": {"cache_dir": str(self.control)}, "train": {"max_steps": 5}}))
        slurm = {"gpus_per_node": 0, "cpus_per_task": 1, "time": 60, "signal_delay": 30, **content.pop("slurm", {})}
        self.file = folder / "toys.yaml"
        self.file.write_text(yaml.safe_dump({"base": str(base), "entry": "toy:train", "slurm": slurm, **content}))

    @property
    def words(self) -> tuple[object, ...]:
        """Options that name the sweep."""
        return "--sweep", self.file, "--out", self.out

    def run(self, name: str) -> Path:
        return self.out / "points" / name

    def record(self, name: str) -> dict[str, Any]:
        path = self.out / "state" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {"state": "waiting", "attempts": 0}

    def state(self, name: str) -> str:
        return str(self.record(name)["state"])

    def at_step(self, name: str, step: int) -> bool:
        """Whether a point has logged a step."""
        path = self.run(name) / "metrics.jsonl"
        return path.exists() and f'"step": {step},' in path.read_text()

    def order(self, what: str) -> Path:
        """Put down a file that tells the toy what to do."""
        path = self.control / what
        path.touch()
        return path

    def events(self, kind: str = "") -> list[list[str]]:
        """Lines that the points wrote: kind, name, time, node."""
        path = self.control / "events"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if kind in ("", line[0])]
