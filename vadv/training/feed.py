"""From a step's clips to tensors on the device, one step ahead of the model.

A thread tokenises, collates and copies the next step while the model works on this one, so that neither shows in a
step's time. On a GPU, batches go through pinned memory and a stream of their own.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator

import torch

from shards.stream import Step
from vadv.models.batch import Batch
from vadv.tasks import Task

Fed = tuple[Step, list[Batch]]
"""A step and its micro-batches on the device."""


def feed(steps: Iterator[Step], task: Task, epoch: int, device: torch.device) -> Generator[Fed, None, None]:
    """The steps with their batches, made ahead; what goes wrong in the making is raised here.

    Closing it ends the thread as soon as it looks up, without waiting for clips that are being read.
    """
    ready: queue.Queue[tuple[Fed, torch.cuda.Event | None] | BaseException | None] = queue.Queue(maxsize=1)
    closed = threading.Event()

    def make() -> None:
        copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        try:
            for step in steps:
                if closed.is_set():
                    return
                ready.put(_moved(step, [task.collate(clips, epoch) for clips in step.micro_batches], device, copies))
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=make, name="feed", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            fed, copied = item
            if copied is not None:
                torch.cuda.current_stream(device).wait_event(copied)
                for batch in fed[1]:
                    batch.used_on(torch.cuda.current_stream(device))
            yield fed
    finally:
        closed.set()
        with contextlib.suppress(queue.Empty):  # let the thread see it
            ready.get_nowait()
        # A tokenizer serves one thread at a time. One that waits for clips may be left: it tokenises no more.
        thread.join(timeout=1)


def _moved(
    step: Step, batches: list[Batch], device: torch.device, copies: torch.cuda.Stream | None
) -> tuple[Fed, torch.cuda.Event | None]:
    """The batches on the device, and what tells when they have arrived there."""
    if copies is None:
        return (step, [batch.to(device) for batch in batches]), None
    with torch.cuda.stream(copies):
        moved = [batch.pinned().to(device) for batch in batches]
        event = torch.cuda.Event()
        event.record()
    return (step, moved), event
