"""Threads that work ahead of the model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Iterable[T], size: int = 1) -> Iterator[T]:
    """The same items, computed in a thread that keeps up to `size` of them ready.

    An error in `items` is raised here, at the place where its item would have been. The thread is a daemon: blocked in
    a read of standard input, it must not keep the process from ending.
    """
    ready: queue.Queue[Any] = queue.Queue(size)
    gone = threading.Event()

    def put(item: Any) -> None:
        while not gone.is_set():
            try:
                return ready.put(item, timeout=1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((item, None))
                if gone.is_set():
                    return
            put((_END, None))
        except BaseException as error:  # handed to the caller's thread
            put((_END, error))

    threading.Thread(target=work, daemon=True, name="ahead").start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        gone.set()


def windows(items: Iterable[T], size: int, weight: Any, limit: int) -> Iterator[list[T]]:
    """Groups of up to `size` items or `limit` of summed weight, in order; a function of the items alone."""
    group: list[T] = []
    total = 0
    for item in items:
        group.append(item)
        total += weight(item)
        if len(group) >= size or total >= limit:
            yield group
            group, total = [], 0
    if group:
        yield group


def eager_windows(items: Iterable[T], size: int, weight: Any, limit: int) -> Iterator[list[T]]:
    """As `windows`, but a group closes as soon as no further item is there: for items that arrive slowly."""
    ready: queue.Queue[Any] = queue.Queue(size)

    def work() -> None:
        try:
            for item in items:
                ready.put((item, None))
            ready.put((_END, None))
        except BaseException as error:  # handed to the caller's thread
            ready.put((_END, error))

    threading.Thread(target=work, daemon=True, name="reader").start()
    ended = False
    while not ended:
        item, error = ready.get()
        group: list[T] = []
        total = 0
        while True:
            if item is _END:
                ended = True
                break
            group.append(item)
            total += weight(item)
            if len(group) >= size or total >= limit or ready.empty():
                break
            item, error = ready.get_nowait()
        if group:
            yield group
        if error is not None:
            raise error
