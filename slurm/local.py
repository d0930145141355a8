"""Points as processes of this machine, a few at a time."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from slurm.alive import LOCAL, RunningLock, is_alive_in_slurm
from slurm.attempt import Ending, claim, settle
from slurm.folder import Folder
from slurm.record import read_record
from slurm.settings import Local
from slurm.snapshot import START
from vadv.ports import free_port

POLL = 0.2
"""Seconds between looks at the processes."""
PATIENCE = 30.0
"""Seconds that ranks have to follow a rank that died, before they are killed: in a collective they would wait long."""


class Ranks:
    """The processes of one attempt at a point."""

    def __init__(
        self, folder: Folder, point: str, lock: RunningLock, code: Path, devices: list[str] | None, ranks: int
    ):
        self.folder, self.point, self.lock = folder, point, lock
        self.told: str | None = None
        self._deadline: float | None = None
        port = free_port()
        folder.logs.mkdir(parents=True, exist_ok=True)
        self.processes = []
        for rank in range(ranks):
            env = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, (str(code), os.environ.get("PYTHONPATH")))),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "LOCAL_WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            if devices is not None:
                env["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
            with folder.log(LOCAL, point, rank).open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-u", str(code / START), "local", str(folder.path), point],
                    env=env,
                    cwd=folder.meta()["cwd"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[lock.descriptor],
                    start_new_session=True,  # Ctrl-C goes to the launch, which tells the ranks
                )
            self.processes.append(process)

    def tell(self, why: str) -> None:
        """Ask the ranks to save and leave."""
        if self.told is None:
            self.told = why
            for process in self.processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)

    def ended(self) -> bool:
        """Whether all ranks have ended. One that dies takes the others along."""
        codes = [process.poll() for process in self.processes]
        if None not in codes:
            return True
        if any(code not in (None, 0) for code in codes):
            self._deadline = self._deadline or time.monotonic() + PATIENCE
            if time.monotonic() > self._deadline:
                self.kill()
        return False

    def kill(self) -> None:
        """End the ranks and whatever they have started, at once."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def ending(self) -> Ending:
        """How it went; the first rank that was killed or failed decides."""
        codes = [process.wait() for process in self.processes]
        worst = max(128 - code if code < 0 else code for code in codes)
        return Ending(code=worst, told=self.told or "asked to stop")


class LocalRunner:
    """Runs points on this machine.

    Args:
        folder: of the sweep.
        settings: how many at a time, and how many processes each.
        code: the snapshot to run.
    """

    def __init__(self, folder: Folder, settings: Local, code: Path) -> None:
        self.folder, self.settings, self.code = folder, settings, code
        self.job = f"{LOCAL}-{os.getpid()}"
        self.devices = visible_devices()
        self.active: dict[int, Ranks] = {}
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // (settings.parallel * settings.ranks))))

    def run(self, points: Iterable[str], on_change: Callable[[], None]) -> None:
        """Run points until each is over, or has no more tries; on Ctrl-C or SIGTERM the ranks save first.

        Args:
            on_change: called after a point has started or ended.

        Raises:
            KeyboardInterrupt: after a signal, when all ranks have left.
        """
        waiting = list(points)
        stop: list[int] = []
        before = {
            n: signal.signal(n, lambda number, frame: stop.append(number)) for n in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            while waiting or self.active:
                changed = False
                for lane in range(self.settings.parallel):
                    if lane in self.active:
                        changed |= self._look(lane, waiting, stop)
                    elif waiting and not stop:
                        changed |= self._start(lane, waiting.pop(0))
                if changed:
                    on_change()
                if stop and not self.active:
                    raise KeyboardInterrupt
                time.sleep(POLL)
        finally:
            for ranks in self.active.values():
                ranks.kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, lane: int, point: str) -> bool:
        lock = RunningLock(self.folder, point)
        mine = lock.acquire() and claim(
            self.folder,
            point,
            self.job,
            socket.gethostname(),
            self.code.name,
            partial(is_alive_in_slurm, self.folder, point),
        )
        if not mine:
            lock.close()
            return False
        count = self.settings.ranks
        devices = None
        if self.devices:
            devices = [self.devices[(lane * count + rank) % len(self.devices)] for rank in range(count)]
        self.active[lane] = Ranks(self.folder, point, lock, self.code, devices, count)
        return True

    def _look(self, lane: int, waiting: list[str], stop: list[int]) -> bool:
        ranks = self.active[lane]
        if stop:
            ranks.tell("launch stopped")
            if len([number for number in stop if number == signal.SIGINT]) > 1:
                ranks.kill()
        elif ranks.told is None and read_record(self.folder, ranks.point).state == "cancelled":
            ranks.tell("cancelled")
        if not ranks.ended():
            return False
        verdict = settle(self.folder, ranks.point, self.job, ranks.ending(), self.folder.meta()["retries"])
        ranks.lock.close()
        del self.active[lane]
        if verdict == "again":
            waiting.append(ranks.point)
        return True


def visible_devices() -> list[str]:
    """GPUs that this process may use, found without loading a library."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [part.strip() for part in chosen.split(",") if part.strip()]
    return sorted(
        (m[1] for m in (re.fullmatch(r"nvidia(\d+)", p.name) for p in Path("/dev").glob("nvidia*")) if m), key=int
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))
