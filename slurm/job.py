"""What runs inside a Slurm job: `begin` and `end` in its batch script, `rank` in each of its tasks.

`begin` takes the point or finds that there is nothing to do, the ranks train, `end` writes down how that went and puts
the job back into the queue if the point is not finished: after a save on a signal (time limit, preemption), and after
errors as often as the sweep allows. The batch script outlives its ranks, so this works for kill -9 as well. What takes
the whole job away (node failure, preemption without warning, scontrol requeue) is put back by Slurm itself, since the
job is submitted with --requeue; `begin` then notices that nobody wrote down the end.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from slurm import summary
from slurm.alive import is_alive
from slurm.attempt import WRONG_USE, Ending, claim, settle
from slurm.folder import Folder, read_json, write_text
from slurm.record import changing, read_record
from slurm.rendezvous import rank_environment
from vadv.config_file import build

LEAVE, AGAIN = 64, 65
"""Exit codes of `begin`: nothing to do for this job; of `end`: put the job back into the queue."""
QUEUE, JOB = "VADV_QUEUE", "VADV_JOB"
"""Variables in which the batch script tells the ids of the user's jobs, and what Slurm knows of this one."""
UNKNOWN = "unknown"
"""In QUEUE: squeue did not answer."""
PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""
SAVED = 75
"""What the entry function returns when a signal stopped it after a complete save."""


def main() -> None:
    """`start.py begin|rank|end|refused SWEEP TAG [EXIT_CODE]` in a job of Slurm, `start.py local SWEEP POINT` outside."""
    part, where, tag, *rest = sys.argv[1:]
    folder = Folder(where)
    if part == "local":
        sys.exit(local_rank(folder, tag))
    point = read_json(folder.submission(tag))["points"][int(os.environ["SLURM_ARRAY_TASK_ID"])]
    if part == "begin":
        sys.exit(begin(folder, point))
    if part == "end":
        sys.exit(end(folder, point, int(rest[0])))
    if part == "refused":
        sys.exit(refused(folder, point))
    sys.exit(rank(folder, point))


def begin(folder: Folder, point: str) -> int:
    """Take the point for this job."""
    queue = os.environ[QUEUE].split()

    def alive(job: str) -> bool:
        if queue == [UNKNOWN]:
            raise OSError(f"squeue did not answer, so whether {job} still has {point} is not known")
        return is_alive(folder, point, job, queue)

    node, code = os.environ.get("SLURM_JOB_NODELIST", ""), Path(__file__).resolve().parents[1].name
    print(f"{time.strftime('%F %T')} {point} in {folder.path}: job {this_job()} on {node}, code {code}", flush=True)
    if claim(folder, point, this_job(), node, code, alive):
        return 0
    print("nothing to do: the point is over, or another job has it", flush=True)
    return LEAVE


def end(folder: Folder, point: str, code: int) -> int:
    """Write down how the ranks ended, and tell the batch script what to do with the job."""
    known = dict(re.findall(r"(\w+)=(\S*)", os.environ[JOB]))
    meta = folder.meta()
    ending = _ending(code, known, meta["signal_delay"])
    verdict = settle(folder, point, this_job(), ending, meta["retries"])
    for file in (folder.path / "state").glob(f"rendezvous-{os.environ['SLURM_JOB_ID']}-*"):
        file.unlink(missing_ok=True)
    print(f"{time.strftime('%F %T')} ranks ended with {code}, {known.get('JobState', '?')}: {verdict}", flush=True)
    if verdict == "again":
        return AGAIN
    if verdict == "over" and all(read_record(folder, plan["name"]).over for plan in folder.points()):
        summary.write(folder)  # the launch may be long gone; until now --status has written it
    return code if verdict == "over" else 0


def refused(folder: Folder, point: str) -> int:
    """Slurm did not put the job back: whoever launches next submits the point again."""
    with changing(folder, point) as record:
        if record.job == this_job():
            record.state, record.error = "waiting", "Slurm refused to requeue its job; --resume submits it again"
    return 1


def rank(folder: Folder, point: str) -> int:
    """Train as one rank."""
    number = os.environ["SLURM_PROCID"]
    meta = folder.meta()
    stop_early(folder, point, number)
    try:
        os.environ |= rank_environment(os.environ, folder.path / "state", meta["interface"])
    except BaseException:
        write_text(folder.note(point, f"error-{number}"), traceback.format_exc())
        raise
    return run_rank(folder, point, number, meta["entry"])


def local_rank(folder: Folder, point: str) -> int:
    """Train as one rank of a point on this machine; the local executor has set the environment."""
    # Should the launching process die, even by kill -9, the kernel tells this one to save and leave.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    number = os.environ["RANK"]
    stop_early(folder, point, number)
    return run_rank(folder, point, number, folder.meta()["entry"])


def run_rank(folder: Folder, point: str, number: str, entry: str) -> int:
    """Call the entry function for a point; an exception is kept in a note beside the point's record.

    Returns:
        Exit code of the process: 0 also after a save on a signal, which is no failure.
    """
    settings = next(p for p in folder.points() if p["name"] == point)["config"]
    module, _, function = entry.partition(":")
    try:
        train: Callable[..., int] = getattr(importlib.import_module(module), function)
        code = train(build(settings), folder.run(point), resume="auto")
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        text = traceback.format_exc()
        write_text(folder.note(point, f"error-{number}"), text)
        print(text, file=sys.stderr, flush=True)
        # A port that another process took meanwhile is the one mistake that does not come back by itself.
        return WRONG_USE if isinstance(error, ValueError) and "MASTER_PORT" not in str(error) else 1
    return 0 if code == SAVED else code


def stop_early(folder: Folder, point: str, number: str) -> None:
    """Until the entry function handles signals itself, a request to stop ends the rank at once: nothing is lost."""

    def leave(received: int, frame: FrameType | None) -> Any:
        folder.note(point, f"stopped-{number}").touch()
        os._exit(0)

    for wanted in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(wanted, leave)


def this_job() -> str:
    """Id of this element of the array, as squeue shows it."""
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def _ending(code: int, known: dict[str, str], signal_delay: int) -> Ending:
    """How the ranks ended, from their exit code and what Slurm knows of the job.

    Args:
        known: as `scontrol show job` prints it.
        signal_delay: seconds before the time limit at which the ranks were told to save.
    """
    if known.get("Reason") == "TimeLimit":
        return Ending(code=0, told="time limit")  # the signal was not enough; nobody else puts the job back
    if known.get("JobState", "RUNNING") != "RUNNING":
        return Ending(code=code, told="taken away: cancelled, requeued or preempted", removed=True)
    if known.get("PreemptTime", "None") not in ("None", "Unknown", ""):
        return Ending(code=code, told="preempted")
    # Slurm looks at limits once in a while: the signal may come a minute before it is due.
    try:
        left = time.mktime(time.strptime(known["EndTime"], "%Y-%m-%dT%H:%M:%S")) - time.time()
    except (KeyError, ValueError):
        left = float("inf")
    return Ending(code=code, told="time limit" if left < signal_delay + 60 else "asked to stop")
