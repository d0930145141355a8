"""The three executors: Slurm's job arrays, processes of this machine, and this process itself."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from slurm.alive import LOCAL, RunningLock, is_alive_in_slurm
from slurm.attempt import Ending, claim, settle
from slurm.folder import Folder
from slurm.launch import advance, deciding, reconcile, submit
from slurm.local import LocalRunner
from slurm.record import read_record
from slurm.snapshot import snapshot
from slurm.status import table, watch
from slurm.summary import write
from slurm.sweep import Sweep
from vadv.config_file import build


def run_slurm(folder: Folder, sweep: Sweep, names: list[str], wait: bool, every: float) -> int:
    """Submit what is missing as job arrays; then watch, and submit what gets free or lost, until all is over.

    Args:
        wait: whether to watch. The jobs need nobody: they requeue and retry themselves, and only points beyond the
            site's limit of jobs are submitted later.
        every: seconds between looks.
    """
    with deciding(folder):
        missing = reconcile(folder, names, sweep.retries)
        left = submit(folder, missing, sweep.slurm, snapshot(folder))
    print(
        f"{len(missing) - len(left)} points submitted, {len(left)} wait for room in the queue; {folder.path}",
        flush=True,
    )
    if not wait:
        write(folder)
        return 0
    try:
        watch(folder, lambda: advance(folder, names, sweep.slurm, sweep.retries), every)
    except KeyboardInterrupt:
        print("\nno longer watching; the jobs go on. --status shows them, --cancel ends them", file=sys.stderr)
        raise
    return _verdict(folder, names)


def run_local(folder: Folder, sweep: Sweep, names: list[str]) -> int:
    """Run what is missing as processes of this machine."""
    with deciding(folder):
        missing = reconcile(folder, names, sweep.retries)
    runner = LocalRunner(folder, sweep.local, snapshot(folder))
    runner.run([name for name in names if name in missing], changes(folder))
    print(table(write(folder), {}))
    return _verdict(folder, names)


def run_debug(folder: Folder, sweep: Sweep, names: list[str]) -> int:
    """Run what is missing in this process, one after the other. An error is raised here, for a debugger to catch."""
    module, _, function = sweep.entry.partition(":")
    train: Callable[..., int] = getattr(importlib.import_module(module), function)
    with deciding(folder):
        missing = reconcile(folder, names, sweep.retries)
    plans = {plan["name"]: plan for plan in folder.points()}
    job, report = f"{LOCAL}-{os.getpid()}", changes(folder)
    for name in missing:
        lock = RunningLock(folder, name)
        try:
            if not (lock.acquire() and claim(folder, name, job, "", "", partial(is_alive_in_slurm, folder, name))):
                continue
            report()
            code = 1
            try:
                code = train(build(plans[name]["config"]), folder.run(name), resume="auto")
            except BaseException:
                folder.note(name, "error-0").write_text(traceback.format_exc(), encoding="utf-8")
                raise
            finally:
                settle(folder, name, job, Ending(code=0 if code == 75 else code), retries=0)
                report()
            if code == 75:
                raise KeyboardInterrupt
        finally:
            lock.close()
    print(table(write(folder), {}))
    return _verdict(folder, names)


def changes(folder: Folder) -> Callable[[], None]:
    """A function that renews the summary and prints a line for each point whose state is new."""
    shown: dict[str, str] = {row.name: row.state for row in write(folder)}

    def report() -> None:
        for row in write(folder):
            if shown.get(row.name) != row.state:
                shown[row.name] = row.state
                print(f"{row.name} {row.state}{': ' + row.record.error if row.record.error else ''}", flush=True)

    return report


def logs(folder: Folder, point: str) -> list[Path]:
    """Log files of a point's last job, one a rank.

    Raises:
        ValueError: no such point.
    """
    from vadv.spelling import did_you_mean

    names = [plan["name"] for plan in folder.points()]
    if point not in names:
        raise ValueError(f"--point: no point {point} in {folder.path}{did_you_mean(point, names)}")
    first = folder.log(read_record(folder, point).job, point, 0)
    return sorted(folder.logs.glob(first.name.replace("_0_log", "_*_log")))


def _verdict(folder: Folder, names: list[str]) -> int:
    return 0 if all(read_record(folder, name).state == "finished" for name in names) else 1
