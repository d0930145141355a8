"""What has happened to a point: its state, the job that has it, and the history of its attempts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from filelock import FileLock

from slurm.folder import Folder, read_json, write_json

State = Literal["waiting", "queued", "running", "finished", "failed", "cancelled"]
KEPT = 50
"""Attempts whose history is kept."""


@dataclass(kw_only=True)
class Record:
    """The state of a point.

    waiting: belongs to no job. queued: a job has it and has not started, or was requeued. running: as it says.
    finished, failed, cancelled: over; failed points are tried again only when asked to.
    """

    point: str
    state: State = "waiting"
    job: str = ""
    """Slurm's `ARRAY_INDEX`, or `local` for a process of this machine."""
    node: str = ""
    """Where it runs or last ran."""
    code: str = ""
    """Hash of the code that the last attempt ran."""
    attempts: int = 0
    """Times it was started."""
    errors: int = 0
    """Errors since it last got further than before."""
    idle: int = 0
    """Stops of any kind since it last got further than before."""
    step: int = 0
    """Optimizer step of the newest complete checkpoint, when last looked at."""
    started: float = 0.0
    """When the last attempt started, seconds since 1970."""
    ended: float = 0.0
    """When the last attempt ended; 0 while it runs."""
    error: str = ""
    """One line about the last error; kept when a later attempt goes well."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry for each attempt: job, node, started, ended, step, cause, error (the whole traceback)."""

    @property
    def over(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in ("finished", "failed", "cancelled")

    def close(self, cause: str, step: int, error: str = "") -> None:
        """Write the end of an attempt into the history and count it.

        Args:
            cause: why it ended, in a few words.
            step: of the newest complete checkpoint.
            error: traceback or last line of the log; empty where it was no error.
        """
        self.ended = time.time()
        further = step > self.step
        self.idle = 0 if further else self.idle + 1
        if error:
            self.errors = 1 if further else self.errors + 1
            self.error = error.strip().splitlines()[-1]
        elif further:
            self.errors = 0
        self.step = max(step, self.step)
        entry = {"job": self.job, "node": self.node, "code": self.code, "started": self.started, "ended": self.ended}
        self.history = [*self.history, {**entry, "step": step, "cause": cause, "error": error}][-KEPT:]


def read_record(folder: Folder, point: str) -> Record:
    """The record of a point; a point never seen before is waiting."""
    path = folder.state(point)
    if not path.is_file():
        return Record(point=point)
    content = read_json(path)
    return Record(**{f.name: content[f.name] for f in fields(Record) if f.name in content})


@contextmanager
def changing(folder: Folder, point: str) -> Iterator[Record]:
    """The record of a point under its lock; written back when the block ends well."""
    path = folder.state(point)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock"), timeout=60):
        record = read_record(folder, point)
        before = asdict(record)
        yield record
        if asdict(record) != before:
            write_json(path, asdict(record))
