"""No eternal wait: a run whose ranks make no progress ends, and says which rank held it up and where.

Each rank's thread writes RUN/.ranks/R.json once a second: that it lives, and the step and phase of its main thread. When
its own main thread stands still for too long, the thread reads the others' files. A rank whose file has gone stale is
frozen or dead; otherwise the ones that are not waiting for others are to blame. Works on any file system that the ranks
share, without a further connection that could hang as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

STOPPED = 3
"""Exit code of a run that stopped by itself."""
TRAINING = "training"
WAITING = "waiting for the other ranks"
"""The phase of a rank that has done its part."""
STARTING = "starting"
START = 1800.0
"""Seconds that a rank may take to start: a first download or a shared file system may hold one up."""
STALE = 5.0
"""Seconds without a sign of life after which a rank counts as frozen or dead."""


class Watchdog:
    """Watches this rank's main thread, and explains when ranks are lost.

    Args:
        run: the run folder, shared by the ranks.
        rank, size: this rank and their number.
        timeout: seconds without progress after which the process ends.
    """

    def __init__(self, run: Path, rank: int, size: int, timeout: float) -> None:
        self.folder, self.rank, self.size, self.timeout = run / ".ranks", rank, size, timeout
        self.step = 0
        self._phase, self._since = STARTING, time.monotonic()
        self._started = psutil.Process().create_time()
        self._ended = threading.Event()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sign()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The main thread does `name` inside the block, and then what it did before."""
        before = self._phase
        self._phase, self._since = name, time.monotonic()
        try:
            yield
        finally:
            self._phase, self._since = before, time.monotonic()

    def alive(self, step: int) -> None:
        """The main thread has made progress: it is at optimizer step `step`."""
        self.step, self._since = step, time.monotonic()
        self._phase = TRAINING if self._phase == STARTING else self._phase

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()
        (self.folder / f"{self.rank}.json").unlink(missing_ok=True)

    def lost(self) -> str:
        """After a broken connection: which rank is gone, found within a few seconds."""
        deadline = time.monotonic() + STALE + 2
        while time.monotonic() < deadline:
            if gone := [sign for sign in self._others() if _gone(sign)]:
                return "; ".join(f"{_described(sign)} is gone" for sign in gone)
            time.sleep(0.2)
        return "the connection to another rank broke; none of them is seen to be gone"

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self.timeout / 10)):
            self._sign()
            if time.monotonic() - self._since > (START if self._phase == STARTING else self.timeout):
                self._end()

    def _sign(self) -> None:
        sign = {
            "rank": self.rank,
            "pid": os.getpid(),
            "started": self._started,
            "host": socket.gethostname(),
            "step": self.step,
            "phase": self._phase,
            "alive": time.time(),
        }
        scratch = self.folder / f".{self.rank}.tmp"
        with contextlib.suppress(OSError):  # a full disk must not end the run here; the loop will tell
            scratch.write_text(json.dumps(sign))
            scratch.replace(self.folder / f"{self.rank}.json")

    def _others(self) -> list[dict[str, Any]]:
        signs = []
        for rank in range(self.size):
            if rank != self.rank:
                with contextlib.suppress(OSError, ValueError):
                    signs.append(json.loads((self.folder / f"{rank}.json").read_text()))
        return signs

    def _end(self) -> None:
        """Say who holds up the run, end frozen ranks of this machine, and leave without waiting for anything."""
        others = self._others()
        frozen = [sign for sign in others if time.time() - sign["alive"] > STALE]
        own = {"rank": self.rank, "pid": os.getpid(), "host": socket.gethostname(), "step": self.step}
        culprits = frozen or [s for s in [*others, {**own, "phase": self._phase}] if s["phase"] != WAITING]
        reasons = [
            f"{_described(sign)} {'gives no sign of life' if frozen else 'hangs in: ' + sign['phase']}"
            for sign in culprits or others
        ]
        if self.rank == min([self.rank, *(s["rank"] for s in others if s not in frozen)]):
            line = "; ".join(reasons) or f"rank {self.rank} hangs in: {self._phase}"
            print(f"stopped: no progress for {self.timeout:g} s: {line}", file=sys.stderr, flush=True)
        for sign in frozen:
            if sign["host"] == socket.gethostname() and not _gone(sign):
                with contextlib.suppress(OSError):
                    os.kill(sign["pid"], signal.SIGKILL)
        os._exit(STOPPED)


def _gone(sign: dict[str, Any]) -> bool:
    """Whether the process of a sign of life is dead, for this machine, or silent, for another."""
    if sign["host"] != socket.gethostname():
        return time.time() - float(sign["alive"]) > STALE
    try:
        process = psutil.Process(sign["pid"])
        same = abs(process.create_time() - float(sign["started"])) < 1
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _described(sign: dict[str, Any]) -> str:
    return f"rank {sign['rank']} (process {sign['pid']} on {sign['host']}, after step {sign['step']})"
