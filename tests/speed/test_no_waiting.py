"""Between log lines the host never waits for the device: nothing of ours reads a tensor's value."""

from __future__ import annotations

import os
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vadv.bench.made import alone, config_of
from vadv.bench.step import Bench

READS = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select", "unique")
"""Operations that need a value on the host, or whose result's shape does."""


class Reads(TorchDispatchMode):
    """Where values are read, by the innermost function of ours, of DeepSpeed or of torch's optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket.__name__ in READS:
            for frame in reversed(traceback.extract_stack()):
                for package in ("vadv", "shards", "deepspeed", "optim"):
                    if f"/{package}/" in frame.filename:
                        self.found[f"{package}: {Path(frame.filename).name} {frame.name}"] += 1
                        return function(*args, **(kwargs or {}))
            self.found["elsewhere"] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A tiny model under the real trainer, in this process."""
    before = dict(os.environ)
    alone()
    changes = {
        "train.batch_size": 2,
        "data.frames": 4,
        "data.frame_size": 64,
        "deepspeed": f"configs/deepspeed/{request.param}.json",
        "log.every": 3,
    }
    made = Bench(config_of(changes, "configs/clip/tiny.json", "tiny-roberta"), tmp_path, plain=False)
    yield made
    made.close()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("bench", ["zero1", "zero2"], indirect=True)
def test_only_log_lines_read_values(bench: Bench) -> None:
    bench.ours()
    with Reads() as quiet:
        bench.ours()
    with Reads() as logging:
        bench.ours()
    assert bench.stepper.state.step == 3
    ours = {place for place in quiet.found if not place.startswith(("deepspeed", "optim"))}
    # DeepSpeed itself asks once a step whether the gradients' norm is a number.
    assert not ours, quiet.found
    assert logging.found["vadv: stepping.py <listcomp>"] + logging.found["vadv: stepping.py <genexpr>"] > 0


@pytest.mark.gpu
@pytest.mark.parametrize("bench", ["zero1", "bf16"], indirect=True)
def test_a_gpu_is_waited_for_in_log_lines_only(bench: Bench) -> None:
    """As torch's own debug mode tells it; DeepSpeed's one question a step is not ours."""
    bench.ours()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            bench.ours()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    ours = [str(w.message) for w in told if "/vadv/" in w.filename or "/shards/" in w.filename]
    assert not ours
