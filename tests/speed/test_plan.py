"""What `--plan` says before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from vadv import config_file
from vadv.bench.made import config_of
from vadv.bench.memory import CASES, compare
from vadv.training.activations import Activations, LiveBytes, activations
from vadv.training.memory import Parameters, memory
from vadv.training.plan import plan

SIZES = Parameters(total=1000, trained=400, group=300)
NEED = Activations(saved=50, training=60, with_gradients=1650, evaluation=70, largest=40)


def zero(stage: int, **settings: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage, "reduce_bucket_size": 100, **settings}}


def test_stages_divide_what_they_say() -> None:
    one, eight = (memory(zero(1), SIZES, NEED, n) for n in (1, 8))
    assert one.weights == eight.weights == 4 * 1000
    assert one.optimizer == 12 * 400 and eight.optimizer == 12 * 400 // 8
    assert memory(zero(2), SIZES, NEED, 8).backward < eight.backward, "ZeRO-2 keeps an eighth of the gradients"
    three = memory(zero(3, stage3_max_live_parameters=100), SIZES, NEED, 8)
    assert three.weights == 4 * 1000 // 8 + 4 * 100
    offloaded = memory(zero(2, offload_optimizer={"device": "cpu"}), SIZES, NEED, 8)
    assert offloaded.optimizer == 0 and offloaded.host == 16 * 400 // 8
    half = memory({"bf16": {"enabled": True}, **zero(1)}, SIZES, NEED, 1)
    assert half.weights == 2 * 1000 and half.optimizer == 12 * 400
    apart = memory(zero(3), replace(SIZES, apart=500), NEED, 8)
    assert apart.weights == memory(zero(3), SIZES, NEED, 8).weights + 4 * 500, "cached features: every rank has CLIP"


def test_the_peak_is_the_worst_moment() -> None:
    need = memory(zero(0), SIZES, NEED, 1)
    assert need.peak == 4 * 1000 + 8 * 400 + max(need.backward, need.step, need.evaluation)


def test_live_bytes_follow_a_forward_and_backward_pass() -> None:
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Tanh(), nn.Linear(16, 4, bias=False))
    x = torch.randn(5, 8)
    with LiveBytes(model) as live:
        loss = model(x).sum()
        # tanh keeps its output, which the second layer keeps too; the sum keeps nothing but its own 4 bytes.
        assert live.now == 5 * 16 * 4 + 4
        loss.backward()
        del loss
    assert live.now == 0 and live.most_with_gradients >= live.most + 4 * 16 * 4
    assert live.largest == 8 * 16 * 4


def test_longer_texts_and_more_clips_need_more() -> None:
    settings = config_file.build(
        {
            "teacher": {"clip": "configs/clip/tiny.json", "weights": "random"},
            "student": {"model": "tiny-roberta", "weights": "random"},
        }
    )
    small, long, many = (
        activations(settings, clips, tokens, torch.float32, 2) for clips, tokens in ((1, 10), (1, 100), (4, 10))
    )
    assert small.saved < long.saved and 3.5 * small.saved < many.saved < 4.5 * small.saved
    half = activations(settings, 4, 10, torch.bfloat16, 2)
    assert 0.45 * many.saved < half.saved < 0.75 * many.saved


def test_the_papers_models_are_planned_without_their_weights() -> None:
    text = plan(config_file.load("configs/mosi.yaml", {"train.batch_size": 32}), world_size=8)
    lines = text.splitlines()
    assert any("teacher.clip" in line and "303.18 M" in line for line in lines)
    assert any("student.encoder" in line and "354.31 M" in line for line in lines)
    assert "huggingface.co/timm/vit_large_patch14_clip_224.openai (openai), " in text
    assert "32 clips a step = 8 GPU(s) x 4 clips x 1 micro-batch(es)" in text
    marked = [line for line in lines if line.strip().startswith(">")]
    assert len(marked) == 1 and "ZeRO-1, float32" in marked[0]


def test_the_command_prints_it_and_leaves(tiny: dict[str, Any]) -> None:
    options = [f"--{s}.{k}={v}" for s in ("teacher", "student") for k, v in tiny[s].items()]
    command = [sys.executable, "launch/train.py", "--plan", "--world-size", "2", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "teacher.clip configs/clip/tiny.json: random, from the seed" in done.stdout
    assert "Memory of each of 2 GPU(s)" in done.stdout
    wrong = subprocess.run([*command, "--train.batch_size=3"], capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 2 and wrong.stderr.startswith("train.py: train.batch_size: expected a multiple of")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_predicted_peaks_are_within_15_per_cent_of_measured_ones(case: str) -> None:
    world, changes = CASES[case]
    if psutil.virtual_memory().available < world * 6 * 2**30:
        pytest.skip(f"less than {6 * world} GiB of free memory")
    predicted, measured, _ = compare(config_of(changes, "ViT-B-32", "roberta-base"), world)
    assert predicted == pytest.approx(measured, rel=0.15)
