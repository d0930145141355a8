"""What Slurm says of jobs and of its limits, by its own commands.

squeue decides whether a job is still there: it needs no accounting database, and unlike sacct it does not lag behind.
sacct is asked only for the last words of a job that has left the queue.
"""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

TIMEOUT = 60.0
"""Seconds for one command: a busy controller may take long, a lost one must not hold us for ever."""


class SlurmError(OSError):
    """A command of Slurm failed: not there, not reachable, or refused."""


class LimitReached(SlurmError):
    """Slurm refuses more jobs of this user for now."""


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A job in the queue.

    Attributes:
        state: PENDING, RUNNING, COMPLETING, ...
        reason: why it waits.
        node: where it runs.
    """

    state: str
    reason: str
    node: str


def call(*words: str, timeout: float = TIMEOUT) -> str:
    """Standard output of a command of Slurm.

    Raises:
        SlurmError: it is not installed, failed, or took too long.
        LimitReached: it refused for a limit on jobs.
    """
    if shutil.which(words[0]) is None:
        raise SlurmError(f"{words[0]}: expected Slurm's commands on PATH, found none; use --executor local or debug")
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{words[0]}: no answer from Slurm in {timeout:.0f} seconds") from None
    if done.returncode:
        message = " ".join((done.stderr or done.stdout).split())
        if re.search(
            r"MaxSubmit|MaxJobs|SubmitJobLimit|SubmitJobPer|violates accounting/QOS policy|Resource temp", message
        ):
            raise LimitReached(message)
        raise SlurmError(f"{' '.join(words[:2])}: {message or f'exit code {done.returncode}'}")
    return done.stdout


def my_jobs() -> dict[str, Queued]:
    """The caller's jobs that wait or run, by id; an element of an array is `ARRAY_INDEX`."""
    found = {}
    for line in call("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i|%T|%r|%N").splitlines():
        job, state, reason, node = line.strip().split("|", 3)
        found[job] = Queued(state=state, reason=reason, node=node)
    return found


def named_jobs(name: str) -> list[str]:
    """Array ids of the caller's jobs of one name that wait or run."""
    lines = call("squeue", "-h", "-u", getpass.getuser(), "-n", name, "-o", "%F").split()
    return sorted(set(lines))


def show(job: str) -> dict[str, str]:
    """What the controller knows of a job; empty once it has forgotten it."""
    try:
        text = call("scontrol", "show", "job", "-o", job)
    except SlurmError as error:
        if "Invalid job id" in str(error):
            return {}
        raise
    return dict(re.findall(r"(\w+)=(\S*)", text.splitlines()[0] if text else ""))


def last_words(job: str) -> str:
    """Final state of a job that has left the queue, such as TIMEOUT or CANCELLED; empty if nobody knows.

    The controller remembers a job for some minutes (MinJobAge) and never lags; then the accounting database, if any.
    """
    state = show(job).get("JobState")
    if state is None:
        try:
            lines = call("sacct", "-n", "-X", "-P", "-j", job, "-o", "State").split("\n")
        except SlurmError:
            return ""
        state = next((line.split()[0] for line in reversed(lines) if line.strip()), "")
    return state


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; those that are gone already are no error."""
    jobs = sorted(set(jobs))
    for start in range(0, len(jobs), 500):
        call("scancel", "-Q", *jobs[start : start + 500])


def largest_array() -> int:
    """Most elements of one array: indices run from 0 to MaxArraySize - 1."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", call("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(match[1])) if match else 1001


def room() -> int | None:
    """How many more jobs the caller may submit; None where no limit is known.

    The least of the limits of the caller's associations and qualities of service, less what is in the queue already.
    """
    user = getpass.getuser()
    caps: list[int] = []
    for words in (
        ("show", "assoc", f"user={user}", "format=MaxSubmitJobs"),
        ("show", "assoc", f"user={user}", "format=QOS"),
    ):
        try:
            lines = [line.strip() for line in call("sacctmgr", "-n", "-P", *words).splitlines() if line.strip()]
            if words[-1] == "format=QOS":
                names = ",".join(sorted({name for line in lines for name in line.split(",")}))
                lines = _qos_caps(names) if names else []
        except SlurmError:
            return None  # no accounting, hence no such limits
        caps += [int(line) for line in lines if line.isdigit()]
    if not caps:
        return None
    return max(0, min(caps) - len(my_jobs()))


def _qos_caps(names: str) -> list[str]:
    text = call("sacctmgr", "-n", "-P", "show", "qos", f"name={names}", "format=MaxSubmitJobsPerUser")
    return [line.strip() for line in text.splitlines() if line.strip()]
