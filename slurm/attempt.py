"""The rules by which a point is started, tried again, or given up: for Slurm's jobs and for local processes alike."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from slurm.folder import Folder
from slurm.progress import checkpoint_step, result
from slurm.record import changing

IDLE_LIMIT = 20
"""Stops in a row, of whatever cause, without a newer checkpoint; then the point is given up as going nowhere."""
WRONG_USE = 2
"""Exit code of a rank whose configuration or input is wrong: trying again would not help."""
TOLD = (0, *(128 + number for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)))
"""Exit codes of ranks that were told to stop and did."""
SAID = "stopped:"
"""How the line begins in which a run says why it stopped by itself."""

Verdict = Literal["again", "over", "leave"]


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the ranks of an attempt ended.

    Attributes:
        code: exit code of all ranks together, 128 + N for signal N; 0 also when they saved and left on a signal.
        told: why they were told to stop, if they were: preemption, time limit, ...
        removed: the job itself is being taken away (scancel, or Slurm's own requeue): it is not ours to put it back.
    """

    code: int
    told: str = "asked to stop"
    removed: bool = False


def claim(folder: Folder, point: str, job: str, node: str, code: str, alive: Callable[[str], bool]) -> bool:
    """Take a point for a job that starts, or find that there is nothing to do.

    Args:
        job: who asks.
        code: hash of the code it runs.
        alive: whether another job is still in the queue.

    Returns:
        False when the point is over, or another job has it.
    """
    with changing(folder, point) as record:
        if result(folder.run(point)) is not None:
            record.state = "finished"
        if record.over:
            return False
        if record.job and record.job != job and alive(record.job):
            return False
        if record.state == "running":
            # Nobody wrote down how the last attempt ended, so nobody was left to do so.
            record.close(
                "lost: preempted without warning, node failure or scontrol requeue", checkpoint_step(folder.run(point))
            )
            if record.idle > IDLE_LIMIT:
                record.state, record.error = "failed", _idle_message(record.idle)
                return False
        record.state, record.job, record.node, record.code = "running", job, node, code
        record.attempts += 1
        record.started, record.ended = time.time(), 0.0
    for kind in ("error", "stopped"):
        for note in folder.notes(point, kind):
            note.unlink(missing_ok=True)
    return True


def settle(folder: Folder, point: str, job: str, ending: Ending, retries: int) -> Verdict:
    """Write down how an attempt ended and decide what becomes of the point.

    Args:
        retries: further attempts after an error without progress.

    Returns:
        `again`: put the job back into the queue; `over`: nothing more to do; `leave`: not ours to decide.
    """
    run = folder.run(point)
    step = checkpoint_step(run)
    with changing(folder, point) as record:
        if record.job != job:
            return "leave"
        if result(run) is not None:
            record.close("finished", step)
            record.state = "finished"
            return "over"
        errors = folder.notes(point, "error")
        # A rank that the signal finds before it can handle signals ends of it: nothing was begun, nothing is lost.
        saved = not errors and (ending.code in TOLD or bool(folder.notes(point, "stopped")))
        if record.state == "cancelled":
            record.close("cancelled", step)
            return "over"
        if saved or ending.removed:
            record.close(ending.told, step)
            record.state = "queued"
            if record.idle > IDLE_LIMIT:
                record.state, record.error = "failed", _idle_message(record.idle)
                return "over"
            return "leave" if ending.removed else "again"
        record.close(_cause(ending.code), step, _error(folder, point, job, ending.code))
        final = ending.code == WRONG_USE or record.errors > retries
        record.state = "failed" if final else "queued"
        return "over" if final else "again"


def _idle_message(times: int) -> str:
    return f"stopped {times} times in a row without a newer checkpoint; see the history in its state file"


def _cause(code: int) -> str:
    if code > 128:
        try:
            return f"killed by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return {3: "stopped by itself"}.get(code, f"exit code {code}")


def _error(folder: Folder, point: str, job: str, code: int) -> str:
    """What went wrong: the traceback of the rank that failed first, or the last words in the logs."""
    notes = sorted(folder.notes(point, "error"), key=lambda path: path.stat().st_mtime_ns)
    if notes:
        return notes[0].read_text(encoding="utf-8", errors="replace")
    first = folder.log(job, point, 0).name
    last: list[str] = []
    for path in sorted(folder.logs.glob(first.replace("_0_log", "_*_log"))):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 20000))
            text = file.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith(SAID)]
        if said:
            return f"{_cause(code)}: {said[-1].removeprefix(SAID).strip()}"
        last += [line for line in lines if not line.startswith(("srun:", "slurmstepd"))][-1:]
    return f"{_cause(code)}{f', after: {last[0][:300]}' if last else ''}"
