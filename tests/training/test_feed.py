"""Batches made ahead are the batches, in order; an end or an error in the making reaches the one who trains."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from shards.clip import Clip
from shards.stream import Step
from vadv.models.batch import Batch
from vadv.models.text import lay
from vadv.training.feed import feed

CPU = torch.device("cpu")


def steps_of(count: int) -> Iterator[Step]:
    for index in range(count):
        yield Step(
            index=index,
            planned=2,
            position=2 * index + 2,
            micro_batches=[[Clip(index=2 * index)], [Clip(index=2 * index + 1)]],
        )


def collate(clips: list[Clip], epoch: int) -> Batch:
    index = torch.tensor([clip.index for clip in clips])
    return Batch(weight=torch.ones(1), label=torch.ones(1), index=index, noise=index, text=lay([[epoch, 7]]))


TASK: Any = SimpleNamespace(collate=collate)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "feed"]


def test_every_step_once_in_order() -> None:
    found = [(step.index, [int(b.index) for b in batches]) for step, batches in feed(steps_of(7), TASK, 3, CPU)]
    assert found == [(i, [2 * i, 2 * i + 1]) for i in range(7)]
    assert not threads()


def test_one_step_is_made_ahead_and_no_more_than_two() -> None:
    made: list[int] = []

    def counted() -> Iterator[Step]:
        for step in steps_of(20):
            made.append(step.index)
            yield step

    ahead = feed(counted(), TASK, 0, CPU)
    next(ahead)
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert made == [0, 1, 2]  # in hand, ready, being handed over
    ahead.close()
    assert not threads()


def test_an_error_is_raised_where_the_step_would_be() -> None:
    def broken() -> Iterator[Step]:
        yield from steps_of(2)
        raise ValueError("no more shards")

    ahead = feed(broken(), TASK, 0, CPU)
    assert next(ahead)[0].index == 0 and next(ahead)[0].index == 1
    with pytest.raises(ValueError, match="no more shards"):
        next(ahead)


def test_closing_does_not_wait_for_clips_that_never_come() -> None:
    never = threading.Event()

    def stuck() -> Iterator[Step]:
        yield from steps_of(1)
        never.wait(60)

    ahead = feed(stuck(), TASK, 0, CPU)
    next(ahead)
    began = time.monotonic()
    ahead.close()
    assert time.monotonic() - began < 5
    never.set()


@pytest.mark.gpu
def test_batches_arrive_on_the_gpu() -> None:
    device = torch.device("cuda:0")
    for step, batches in feed(steps_of(50), TASK, 1, device):
        assert [int(b.index) for b in batches] == [2 * step.index, 2 * step.index + 1]
        assert batches[0].text is not None and batches[0].text.ids.device.type == "cuda"
