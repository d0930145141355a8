"""Whether the job or process that has a point still lives."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Container

from slurm.folder import Folder
from slurm.queue import my_jobs

LOCAL = "local"
"""First part of the job id of a point that runs in processes of this machine."""


class RunningLock:
    """Held while any process of a point runs on this machine.

    The kernel drops it with the last process that inherited its descriptor, however that process ends; so there are no
    stale locks, and a rank that outlives a killed launch still keeps others away.
    """

    def __init__(self, folder: Folder, point: str) -> None:
        path = folder.note(point, "running")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def acquire(self) -> bool:
        """Take the lock if it is free."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go of it here; processes that inherited it keep it."""
        os.close(self.descriptor)


def is_alive(folder: Folder, point: str, job: str, queue: Container[str] | None = None) -> bool:
    """Whether a job is in Slurm's queue, or local processes of the point still run.

    Args:
        queue: ids of the user's jobs; asked for where it is None.
    """
    if job.startswith(LOCAL):
        lock = RunningLock(folder, point)
        free = lock.acquire()
        lock.close()
        return not free
    return job in (my_jobs() if queue is None else queue)


def is_alive_in_slurm(folder: Folder, point: str, job: str) -> bool:
    """Whether a job of Slurm has the point, for one who holds its running lock: no local process can have it then."""
    return not job.startswith(LOCAL) and is_alive(folder, point, job)
