"""Workers that hang in native code, crash, or fail cost their task only."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

import psutil

from shards.workers import Failure, in_workers


def start() -> None:
    """Nothing to set up."""


def work(task: str) -> str:
    if task == "hang":
        ctypes.PyDLL(None).sleep(600)  # holds the GIL: no signal handler and no thread can end it
    if task == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "error":
        raise RuntimeError("nobody foresaw this")
    return task.upper()


def test_each_outcome_comes_in_order_and_nothing_stays_behind() -> None:
    tasks = ["a", "crash", "b", "hang", "c", "error", "d"]
    results = list(in_workers(work, tasks, workers=2, timeout=3, start=start))
    assert [result for result in results if isinstance(result, str)] == ["A", "B", "C", "D"]
    failures = {result.task: result for result in results if isinstance(result, Failure)}
    assert {task: failure.cause for task, failure in failures.items()} == {
        "crash": "crash",
        "hang": "timeout",
        "error": "failed",
    }
    assert failures["error"].detail == "RuntimeError: nobody foresaw this"
    assert failures["hang"].detail == "not done after 3 s"


def test_tasks_are_read_only_a_little_ahead() -> None:
    read = []

    def tasks() -> object:
        for number in range(1000):
            read.append(number)
            yield str(number)

    results = in_workers(work, tasks(), workers=1, timeout=30, start=start)  # type: ignore[arg-type]
    assert next(results) == "0"
    assert len(read) <= 5
    results.close()


def test_closing_early_ends_the_workers(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    results = in_workers(work, ["a", "hang", "b"], workers=1, timeout=500, start=start)
    assert next(results) == "A"
    results.close()
    after = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    # What may stay are multiprocessing's own servers, which every later pool uses again.
    workers = [child for child in after if any("forkserver" in word for word in child.parent().cmdline())]
    assert not [child for child in workers if child.status() != psutil.STATUS_ZOMBIE]
