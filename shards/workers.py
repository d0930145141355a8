"""Processes that prepare clips and may be killed: a decoder that hangs or crashes costs its clip only."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import TimeoutError as TookTooLong
from typing import Any

from shards.prepare import Preparation, Prepared, prepare, start_worker
from shards.sources.record import Raw, Rejected

CLIPS_UNDER_WAY = 4
"""Per worker: enough to bridge a slow clip, few enough to bound memory by some hundred megabytes."""


def core_count() -> int:
    """Cores that this process may use, which in a container or a job can be fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def prepared(
    records: Iterable[Raw], preparation: Preparation, workers: int | None, timeout: float
) -> Generator[Prepared | Rejected, None, None]:
    """Results in the order of `records`; closing the generator ends the workers.

    Args:
        records: read as results are taken, `CLIPS_UNDER_WAY` per worker ahead.
        preparation: settings of a clip.
        workers: processes, one thread each; default: one per core.
        timeout: seconds after which a clip's worker is killed.
    """
    from pebble import ProcessPool

    count = workers or core_count()
    context = multiprocessing.get_context("forkserver")
    # Imported once, so that a worker in the place of a killed one starts at once.
    context.set_forkserver_preload(["cv2", "av", "h5py", "shards.prepare"])
    pool = ProcessPool(count, context=context, initializer=start_worker, initargs=[preparation])
    under_way: deque[tuple[Raw, Any]] = deque()
    try:
        for raw in records:
            under_way.append((raw, pool.schedule(prepare, args=[raw], timeout=timeout)))
            if len(under_way) >= CLIPS_UNDER_WAY * count:
                yield _result(*under_way.popleft(), timeout)
        while under_way:
            yield _result(*under_way.popleft(), timeout)
    finally:
        pool.stop()
        pool.join()


def _result(raw: Raw, future: Any, timeout: float) -> Prepared | Rejected:
    """What a worker made of a clip; any end of its worker, or an error that nobody foresaw, rejects this clip only."""
    from pebble import ProcessExpired

    try:
        result: Prepared | Rejected = future.result()
        return result
    except TookTooLong:
        return Rejected(id=raw.id, cause="timeout", detail=f"not done after {timeout:g} s: {raw.video}")
    except ProcessExpired as error:
        return Rejected(id=raw.id, cause="crash", detail=f"the worker ended with code {error.exitcode}: {raw.video}")
    except Exception as error:
        return Rejected(id=raw.id, cause="failed", detail=f"{type(error).__name__}: {error}: {raw.video}")
