"""Processes that work on clips and may be killed: a decoder that hangs or crashes costs its clip only."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import BrokenExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

TASKS_UNDER_WAY = 4
"""Per worker: enough to bridge a slow clip, few enough to bound memory by some hundred megabytes."""


@dataclass(frozen=True)
class Failure(Generic[Task]):
    """A task without a result: its worker was killed or ended, or an error that nobody foresaw.

    Attributes:
        task: what was to be done.
        cause: timeout, crash or failed.
        detail: one line for a person.
    """

    task: Task
    cause: str
    detail: str


def core_count() -> int:
    """Cores that this process may use, which in a container or a job can be fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def in_workers(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    workers: int | None,
    timeout: float,
    start: Callable[..., None],
    settings: tuple[Any, ...] = (),
) -> Generator[Result | Failure[Task], None, None]:
    """Results in the order of `tasks`; closing the generator ends the workers.

    Args:
        function: called in a worker with one task.
        tasks: read as results are taken, `TASKS_UNDER_WAY` per worker ahead.
        workers: processes; default: one per core.
        timeout: seconds after which a task's worker is killed.
        start: called once in each worker, with `settings`.

    Raises:
        OSError: workers cannot be started at all.
    """
    from pebble import ProcessPool

    count = workers or core_count()
    context = multiprocessing.get_context("forkserver")
    # Imported once, so that a worker in the place of a killed one starts at once.
    context.set_forkserver_preload(["cv2", "av", "h5py", "shards.prepare"])
    pool = ProcessPool(count, context=context, initializer=start, initargs=settings)
    under_way: deque[tuple[Task, Any]] = deque()
    try:
        for task in tasks:
            under_way.append((task, pool.schedule(function, args=[task], timeout=timeout)))
            if len(under_way) >= TASKS_UNDER_WAY * count:
                yield _outcome(*under_way.popleft(), timeout)
        while under_way:
            yield _outcome(*under_way.popleft(), timeout)
    finally:
        pool.stop()
        pool.join()


def one_thread() -> None:
    """Let a worker use one thread only: there is one worker per core."""
    import cv2
    from threadpoolctl import threadpool_limits

    cv2.setNumThreads(1)
    threadpool_limits(1)


def _outcome(task: Task, future: Any, timeout: float) -> Any:
    from pebble import ProcessExpired

    try:
        return future.result()
    except BrokenExecutor as error:
        raise OSError(f"worker processes end as soon as they are started: {error}") from error
    except TookTooLong:
        return Failure(task, "timeout", f"not done after {timeout:g} s")
    except ProcessExpired as error:
        return Failure(task, "crash", f"the worker ended with code {error.exitcode}")
    except Exception as error:
        return Failure(task, "failed", f"{type(error).__name__}: {error}")
