"""Processes of a benchmark that train together as ranks, on CPUs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from vadv.ports import free_port


def on_ranks(size: int, work: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] = {}) -> list[Any]:
    """Call `work(*arguments)` in `size` fresh processes that find each other.

    Args:
        work: importable by name.
        environment: further variables that the processes start with.

    Returns:
        What it returned, by rank.

    Raises:
        ValueError: a rank ended early; its own message is on standard error.
    """
    context = multiprocessing.get_context("spawn")
    port, ranks = free_port(), []
    with _set(environment):
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_rank, args=(theirs, rank, size, port, work, arguments))
            process.start()
            theirs.close()
            ranks.append((ours, process))
    try:
        return [pipe.recv() for pipe, _ in ranks]
    except EOFError:
        raise ValueError("a rank ended before it had measured; its own message stands above") from None
    finally:
        for _, process in ranks:
            process.join(30)
            process.kill()


def _rank(
    pipe: Connection, rank: int, size: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "DS_ACCELERATOR": "cpu"}
        | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    )
    import warnings

    warnings.filterwarnings("ignore", category=FutureWarning)  # of DeepSpeed's use of torch.distributed
    pipe.send(work(*arguments))


@contextmanager
def _set(environment: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
