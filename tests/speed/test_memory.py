"""Frozen weights are held once and in the run's own format; a long run takes no more memory than a short one."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from vadv.bench.made import alone, config_of
from vadv.bench.step import Bench

MB = 10**6


@pytest.fixture
def environment() -> Iterator[None]:
    before = dict(os.environ)
    alone()
    yield
    os.environ.clear()
    os.environ.update(before)


def bytes_held() -> int:
    """Bytes of all tensors that Python knows of; a storage that several share counts once."""
    gc.collect()
    storages: dict[int, int] = {}
    for found in gc.get_objects():
        if type(found) in (torch.Tensor, torch.nn.Parameter) and found.layout == torch.strided:
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize(("preset", "width", "master"), [("bf16", 2, 4), ("zero1", 4, 4), ("zero0", 4, 0)])
def test_frozen_weights_are_held_once(environment: None, tmp_path: Path, preset: str, width: int, master: int) -> None:
    changes: dict[str, Any] = {"deepspeed": f"configs/deepspeed/{preset}.json", "train.batch_size": 1}
    before = bytes_held()
    bench = Bench(config_of(changes, "ViT-B-32", "tiny-roberta"), tmp_path, plain=False)
    try:
        held = bytes_held() - before
        frozen = [p for p in bench.task.module.parameters() if not p.requires_grad]
        trained = sum(p.numel() for p in bench.task.module.parameters() if p.requires_grad)
        assert {p.element_size() for p in frozen} == {width}
        frozen_bytes = width * sum(p.numel() for p in frozen)
        assert frozen_bytes > 80 * width * MB
        # Beside them: trained weights and their float32 copy; the moments are made by the first step.
        bound = frozen_bytes + (width + master) * trained + 20 * MB
        assert held < bound, (held, frozen_bytes, trained)
        assert held + frozen_bytes > bound, "a second copy would not have been noticed"
    finally:
        bench.close()


@pytest.mark.slow
def test_two_thousand_steps_take_no_more_memory(environment: None, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"train.batch_size": 2, "data.frames": 2, "data.frame_size": 32}
    bench = Bench(config_of(changes, "configs/clip/tiny.json", "tiny-roberta"), tmp_path, plain=False)
    try:
        resident, process = [], psutil.Process()
        for step in range(2200):
            bench.ours()
            if step % 200 == 199:
                gc.collect()
                resident.append(process.memory_info().rss)
        print([round(value / MB, 1) for value in resident])
        assert resident[-1] - resident[0] < 8 * MB, resident
    finally:
        bench.close()
