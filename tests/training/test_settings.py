"""The pure parts of training: schedule, DeepSpeed settings, batch arithmetic, what may change when a run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vadv.config import Config, Train
from vadv.config_file import dump
from vadv.training import folder
from vadv.training.engine import deepspeed_settings, parameter_groups, zero_stage
from vadv.training.schedule import warmup_cosine


def test_the_schedule_is_that_of_transformers() -> None:
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, 15, 100)
    for step in range(100):
        assert warmup_cosine(step, 15, 100) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("preset", sorted(Path("configs/deepspeed").glob("*.json")))
@pytest.mark.parametrize("world", [1, 2, 8])
def test_every_preset_gives_consistent_batch_sizes(preset: Path, world: int) -> None:
    config = Config(train=Train(batch_size=32, micro_batch_size=2), deepspeed=str(preset))
    settings = deepspeed_settings(config, world)
    parts = settings["train_micro_batch_size_per_gpu"] * settings["gradient_accumulation_steps"] * world
    assert parts == settings["train_batch_size"] == 32
    assert zero_stage(settings) in range(4)


@pytest.mark.parametrize(("batch", "micro", "world"), [(4, 4, 2), (4, 3, 1), (2, None, 4), (10, 4, 2)])
def test_wrong_batch_arithmetic_is_one_line_that_names_the_keys(batch: int, micro: int | None, world: int) -> None:
    with pytest.raises(ValueError, match=r"train\.batch_size: expected a multiple of .*found \d+; change train"):
        Train(batch_size=batch, micro_batch_size=micro).accumulation(world)


@pytest.mark.parametrize("key", ["train_batch_size", "gradient_accumulation_steps", "optimizer", "gradient_clipping"])
def test_a_json_that_decides_what_the_configuration_decides_is_refused(tmp_path: Path, key: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({key: 1, "zero_optimization": {"stage": 1}}))
    with pytest.raises(ValueError, match=f"sets {key}, which train"):
        deepspeed_settings(Config(deepspeed=str(path)), 1)
    path.write_text(json.dumps({key: "auto"}))
    deepspeed_settings(Config(deepspeed=str(path)), 1)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="deepspeed: expected"):
        deepspeed_settings(Config(deepspeed=str(path)), 1)


def test_parameters_are_grouped_by_decay_and_age_and_frozen_ones_left_out() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.old = torch.nn.Linear(2, 2)
            self.new = torch.nn.Linear(2, 2)
            self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)
            self.position = torch.nn.Parameter(torch.zeros(1, 2, 2))

        def pretrained_parameters(self) -> list[torch.nn.Parameter]:
            return [*self.old.parameters(), *self.frozen.parameters()]

    model = Model()
    groups = parameter_groups(model, Config(train=Train(new_module_lr_factor=10, weight_decay=0.1)))
    found = {
        name: (g["weight_decay"], g["lr_factor"])
        for g in groups
        for p in g["params"]
        for name, q in model.named_parameters()
        if p is q
    }
    assert found == {
        "old.weight": (0.1, 1.0),
        "old.bias": (0.0, 1.0),
        "new.weight": (0.1, 10),
        "new.bias": (0.0, 10),
        "position": (0.0, 10),
    }


def test_what_matters_is_compared_when_a_run_goes_on(tmp_path: Path) -> None:
    config = Config()
    (tmp_path / folder.CONFIG).write_text(dump(config))
    free = replace(config, data=replace(config.data, workers=7), train=replace(config.train, max_steps=3))
    assert folder.differences(tmp_path, free) == []
    other = replace(config, seed=2, train=replace(config.train, lr=1e-3), teacher=None)
    lines = folder.differences(tmp_path, other)
    assert "seed was 1, is 2" in lines and "train.lr was 8e-06, is 0.001" in lines
    assert any(line.startswith("teacher") for line in lines)


def test_what_was_logged_after_the_step_is_forgotten(tmp_path: Path) -> None:
    for name in (folder.METRICS, folder.BAD_SAMPLES, "samples-0.jsonl"):
        lines = [json.dumps({"step": step}) for step in (1, 2, 3, 4)]
        (tmp_path / name).write_text("\n".join(lines) + '\n{"step": 5, "lo')
    folder.cut_back(tmp_path, 2)
    for name in (folder.METRICS, folder.BAD_SAMPLES, "samples-0.jsonl"):
        assert [json.loads(line)["step"] for line in (tmp_path / name).read_text().splitlines()] == [1, 2]


def test_a_folder_is_replaced_in_one_move(tmp_path: Path) -> None:
    target = tmp_path / "student"
    for content in ("first", "second"):
        with folder.replaced(target) as scratch:
            (scratch / "weights").write_text(content)
    assert (target / "weights").read_text() == "second"
    with pytest.raises(RuntimeError), folder.replaced(target) as scratch:
        raise RuntimeError("no space")
    assert (target / "weights").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["student"]


def test_undefined_metrics_become_null(tmp_path: Path) -> None:
    """A validation split whose labels are all 0 has no F1 of positive against negative; the student is kept anyway."""
    folder.write_json(tmp_path / "a.json", {"f1": float("nan"), "more": [np.float32("inf"), np.int64(3)], "mae": 0.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"f1": None, "more": [None, 3], "mae": 0.5}
