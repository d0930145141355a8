"""However a step is spread over ranks and micro-batches, its numbers are those of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_runs import Ranks, changed, numbers


def close(left: Path, right: Path, tolerance: float = 1e-5) -> None:
    """Assert that two runs logged the same steps with the same numbers."""
    a, b = numbers(left), numbers(right)
    assert a.keys() == b.keys() and len(a) >= 4
    for step in a:
        assert a[step] == pytest.approx(b[step], rel=tolerance, abs=tolerance), step


@pytest.fixture(scope="module")
def alone(ranks: Ranks, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process without accumulation that the others must equal."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert ranks.train(changed(tiny, deepspeed="configs/deepspeed/zero0.json"), run, world=1) == 0
    return run


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_ranks_equal_one(ranks: Ranks, tiny: dict[str, Any], alone: Path, tmp_path: Path, stage: int) -> None:
    settings = changed(tiny, deepspeed=f"configs/deepspeed/zero{stage}.json", train={"micro_batch_size": 3})
    assert ranks.train(settings, tmp_path / "run", world=2) == 0
    close(alone, tmp_path / "run")


def test_accumulation_equals_one_batch(ranks: Ranks, tiny: dict[str, Any], alone: Path, tmp_path: Path) -> None:
    settings = changed(tiny, train={"micro_batch_size": 3})
    assert ranks.train(settings, tmp_path / "run", world=1) == 0
    close(alone, tmp_path / "run")
