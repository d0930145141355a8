"""Counted operations against torch's own counter, tower by tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from training_runs import Ranks, changed, logged

from vadv import config_file
from vadv.training.flops import Work
from vadv.training.peaks import peak_of, peak_of_name
from vadv.training.shapes import shapes_of

CLIPS, TOKENS = 3, 37
CASES: dict[str, dict[str, Any]] = {
    "the paper's": {},
    "xclip prompting": {"teacher": {"prompting": "xclip", "cct": {"layers": 1}}},
    "inside": {"teacher": {"cct": {"placement": "inside"}}},
    "trained blocks": {"teacher": {"trainable_blocks": 2}},
    "trained text": {"teacher": {"trainable_text": True}},
    "no face, no prompting": {"teacher": {"face": False, "prompting": False}},
    "student frozen": {"student": {"frozen": True}},
    "student alone": {"teacher": None},
    "BERT": {"student": {"model": "bert-base-uncased"}},
}


@pytest.mark.parametrize("case", CASES)
def test_counts_agree_with_torch_to_one_per_cent(case: str) -> None:
    base = {
        "student": {"model": "roberta-base", "weights": "random"},
        "teacher": {"clip": "ViT-B-32", "weights": "random"},
    }
    settings = config_file.build(changed(base, **CASES[case]))
    with shapes_of(settings, CLIPS, TOKENS) as (model, batch):
        work = Work(model)
        if model.teacher is not None:
            for part in (model.teacher.cct, model.teacher.tail):
                part.eval() if part is not None else None  # no activation checkpointing: what is done again counts once
        # The fused kernels of a CPU are unknown to the counter; the plain one has the same products.
        with sdpa_kernel(SDPBackend.MATH):
            with FlopCounterMode(display=False) as forward:
                loss = model(batch)["loss"]
            with FlopCounterMode(display=False) as backward:
                loss.backward()
    towers = {name: sum(v.values()) for name, v in forward.get_flop_counts().items()}
    student = work.student(CLIPS, *batch.text.ids.shape)
    assert student.forward == pytest.approx(towers["VideoAdviser.student"], rel=0.01)
    if settings.teacher is not None:
        assert (work.frozen * CLIPS).forward == pytest.approx(towers["VideoAdviser.teacher.clip"], rel=0.01)
        rest = towers["VideoAdviser.teacher"] - towers["VideoAdviser.teacher.clip"]
        assert (work.teacher * CLIPS + work.prompts).forward == pytest.approx(rest, rel=0.01)
    total = work.micro_batch(batch, CLIPS if settings.teacher is not None else 0)
    assert total.forward == pytest.approx(forward.get_total_flops(), rel=0.01)
    assert total.backward == pytest.approx(backward.get_total_flops(), rel=0.01)


def test_a_card_is_found_by_its_longest_name_and_users_add_theirs(tmp_path: Path) -> None:
    assert peak_of_name("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert peak_of_name("NVIDIA H100 PCIe", "bfloat16") == 756e12
    assert peak_of_name("Tesla V100-SXM2-16GB", "bfloat16") is None
    assert peak_of_name("Some other card", "float32") is None
    assert peak_of(torch.device("cpu"), "float32") is None
    table = tmp_path / "peaks.json"
    table.write_text('{"Some other": {"float32": 2.5}}')
    assert peak_of_name("Some other card", "float32", table) == 2.5e12
    table.write_text('{"Some other": 3}')
    with pytest.raises(ValueError, match=r"peaks\.json: expected .* for each card"):
        peak_of_name("Some other card", "float32", table)


def test_the_log_tells_operations_and_padding(ranks: Ranks, tiny: dict[str, Any], tmp_path: Path) -> None:
    """Micro-batches of the same clips are laid out alike, whichever rank has them."""
    runs = {}
    for world in (1, 2):
        run = tmp_path / str(world) / "run"
        settings = changed(tiny, train={"max_steps": 2, "micro_batch_size": 3})
        assert ranks.train(settings, run, world=world) == 0
        runs[world] = logged(run)[1]
        assert runs[world]["mfu"] is None
    assert runs[1]["padded_tokens"] == runs[2]["padded_tokens"]
    assert 0 <= runs[1]["padded_tokens"] <= 0.05
    assert runs[1]["tflops"] > 0 and runs[2]["tflops"] > 0
