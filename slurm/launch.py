"""Launching a sweep: what is missing is found, submitted once, and watched until every point is over."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from slurm import queue
from slurm.alive import LOCAL, is_alive
from slurm.arrays import job_name, submit_array
from slurm.attempt import IDLE_LIMIT
from slurm.folder import Folder, read_json, write_json
from slurm.plan import write_plan
from slurm.progress import checkpoint_step, result
from slurm.record import Record, changing, read_record
from slurm.settings import Slurm
from slurm.snapshot import snapshot
from slurm.summary import write
from slurm.sweep import Point, Sweep

ENDED_BY_SLURM = ("TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REQUEUED", "COMPLETED", "COMPLETING", "")
"""Last words of a job that are no error of the point."""


@contextmanager
def deciding(folder: Folder, patience: float = 60.0) -> Iterator[None]:
    """Only one launch at a time decides what is missing and submits it.

    Raises:
        ValueError: another one still does after `patience` seconds.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.lock, timeout=patience):
            yield
    except Timeout:
        raise ValueError(f"{folder.path}: another launch is submitting its points; try again when it is done") from None


def prepare(
    folder: Folder, sweep: Sweep, points: list[Point], file: Path, *, resume: bool, retry_failed: bool
) -> list[str]:
    """Write the plan, and set points free that were cancelled, or failed if those are to be tried again.

    Returns:
        Names of the points to care for.

    Raises:
        ValueError: the folder holds this sweep already and `resume` is false.
    """
    if not folder.plan.is_file() and (folder.path / "config.yaml").is_file():
        raise ValueError(f"{folder.path}: expected a folder for a sweep, found one of a run; give another --out")
    if folder.plan.is_file() and not (resume or retry_failed):
        found = write(folder)
        done = sum(row.state == "finished" for row in found)
        raise ValueError(
            f"{folder.path}: expected no sweep there yet, found one with {done} of {len(found)} points finished; "
            "add --resume to submit what is missing, or give another --out"
        )
    names = write_plan(folder, sweep, points, file)
    for name in names:
        with changing(folder, name) as record:
            if record.state == "cancelled" or (retry_failed and record.state == "failed"):
                record.state, record.errors, record.idle = "waiting", 0, 0
    return names


def reconcile(folder: Folder, names: list[str], retries: int) -> list[str]:
    """Hold the records against what is true: finished runs, jobs in the queue, local processes.

    Call it under `deciding`. A point whose job has vanished is set waiting, or failed when it has no more tries.

    Returns:
        Names of the points that need a job.

    Raises:
        SlurmError: Slurm was asked and did not answer; nothing is known then, and nothing is changed.
    """
    records = {name: read_record(folder, name) for name in names}
    in_slurm = any(r.job and not r.job.startswith(LOCAL) and not r.over for r in records.values())
    open_submissions = [path for path in folder.submission("x").parent.glob("*.json") if read_json(path)["job"] is None]
    # Asked after the records were read: a job that they name and the queue lacks is really gone.
    jobs = queue.my_jobs() if in_slurm or open_submissions else {}
    for path in open_submissions:
        _recover(folder, path, records)
    waiting = []
    for name, record in records.items():
        # A job that was cancelled may still be saving: its point is not free before it is gone.
        if record.over or (record.job and is_alive(folder, name, record.job, jobs)):
            continue
        if result(folder.run(name)) is not None:
            with changing(folder, name) as record:
                if not record.over:
                    record.state = "finished"
        elif record.job and record.state != "waiting":
            _lost(folder, name, record.job, retries)
        if read_record(folder, name).state == "waiting":
            waiting.append(name)
    return waiting


def submit(folder: Folder, names: list[str], settings: Slurm, code: Path) -> list[str]:
    """Submit points as arrays no larger than the site allows, until its limits are reached.

    Call it under `deciding`.

    Returns:
        Names that the site has no room for at present.
    """
    largest, cwd = queue.largest_array(), Path(folder.meta()["cwd"])
    left = list(names)
    while left:
        free = queue.room()
        size = min(largest, len(left), len(left) if free is None else free)
        if size == 0:
            return left
        part, left = left[:size], left[size:]
        try:
            job = submit_array(folder, settings, cwd, part, code)
        except queue.LimitReached as error:
            print(f"{len(part) + len(left)} points wait: {error}", file=sys.stderr, flush=True)
            return part + left
        for index, name in enumerate(part):
            _assign(folder, name, f"{job}_{index}", code.name)
    return []


def advance(folder: Folder, names: list[str], settings: Slurm, retries: int) -> bool:
    """One round of watching: settle what has changed, submit what is missing. Returns whether all is over."""
    try:
        with deciding(folder, patience=0.0):
            waiting = reconcile(folder, names, retries)
            if waiting:
                submit(folder, waiting, settings, snapshot(folder))
    except ValueError:
        pass  # another launch is at it
    except queue.SlurmError as error:
        print(f"Slurm does not answer, trying again: {error}", file=sys.stderr, flush=True)
    return all(read_record(folder, name).over for name in names)


def cancel(folder: Folder) -> int:
    """Cancel all points that are not over, and keep their jobs from putting themselves back. Returns how many."""
    jobs, count = [], 0
    with deciding(folder):
        for plan in folder.points():
            with changing(folder, plan["name"]) as record:
                if record.over or result(folder.run(plan["name"])) is not None:
                    continue
                record.state, count = "cancelled", count + 1
                if record.job and not record.job.startswith(LOCAL):
                    jobs.append(record.job)
        if jobs:
            queue.cancel(jobs)
    write(folder)
    return count


def _assign(folder: Folder, name: str, job: str, code: str) -> None:
    """Note the job of a point, unless the job has started meanwhile and noted it itself."""
    with changing(folder, name) as record:
        if record.job != job and record.state == "waiting":
            record.state, record.job, record.code = "queued", job, code


def _recover(folder: Folder, path: Path, records: dict[str, Record]) -> None:
    """Find the jobs of a submission whose launch died between sbatch and writing down the number."""
    entry = json.loads(path.read_text(encoding="utf-8"))
    found = queue.named_jobs(job_name(entry["tag"]))
    if not found:
        path.unlink()  # never submitted, or over: then its jobs have written their own records
        return
    write_json(path, {**entry, "job": found[-1]})
    for index, name in enumerate(entry["points"]):
        _assign(folder, name, f"{found[-1]}_{index}", entry["code"])
        records[name] = read_record(folder, name)


def _lost(folder: Folder, name: str, job: str, retries: int) -> None:
    """A point's job is gone and the point is not finished."""
    words = "" if job.startswith(LOCAL) else queue.last_words(job)
    with changing(folder, name) as record:
        if record.job != job or record.over or record.state == "waiting":
            return
        if words.startswith("CANCELLED"):
            record.state, record.error = "cancelled", f"{job} was cancelled outside the sweep"
            return
        error = "" if words in ENDED_BY_SLURM else f"{job} left the queue: {words}"
        if record.state == "running" or error:
            record.close(f"left the queue: {words or 'nobody knows why'}", checkpoint_step(folder.run(name)), error)
        record.state = "failed" if record.errors > retries or record.idle > IDLE_LIMIT else "waiting"
