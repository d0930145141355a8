"""Every switch builds, trains under ZeRO-2 and ZeRO-3 on two ranks, and leaves nothing that waits for a gradient."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from vadv import config
from vadv.models import Student, Teacher, VideoAdviser, build_student, build_teacher
from vadv.models.batch import Batch
from vadv.models.text import lay
from vadv.objectives.build import build_objective

INSIDE = config.CrossFrame(placement="inside")
SWITCHES: dict[str, dict[str, dict[str, Any]]] = {
    "the paper": {},
    "without face": {"teacher": {"face": False}},
    "without prompting": {"teacher": {"prompting": False}},
    "prompting as X-CLIP": {"teacher": {"prompting": "xclip"}},
    "CCT inside": {"teacher": {"cct": INSIDE}},
    "CCT inside, a block trained": {"teacher": {"cct": INSIDE, "trainable_blocks": 1}},
    "a CLIP block trained": {"teacher": {"trainable_blocks": 1}},
    "text encoder trained": {"teacher": {"trainable_text": True}},
    "text encoder trained, prompts unused": {
        "teacher": {"trainable_text": True},
        "objective": {"gamma": 0.0, "variant": "none"},
    },
    "frozen student": {"student": {"frozen": True}},
    "BERT": {"student": {"model": "tiny-bert"}},
    "teacher detached": {"objective": {"detach_teacher": True}},
    "without first step": {"objective": {"variant": "step-without-first"}},
    "first step by weight": {"objective": {"delta": 0.0}},
    "without steps": {"objective": {"variant": "none"}},
    "CRD": {"objective": {"variant": "crd"}},
    "CRD alone": {"objective": {"variant": "crd", "delta": 0.0}},
    "FitNet": {"objective": {"variant": "fitnet"}},
    "FitNet, second step off": {"objective": {"variant": "fitnet", "psi": 0.0}},
    "PKT": {"objective": {"variant": "pkt"}},
    "student alone": {"alone": {}},
}


def settings_of(name: str, base: config.Config) -> config.Config:
    assert base.teacher is not None
    changes = SWITCHES[name]
    return replace(
        base,
        teacher=None if "alone" in changes else replace(base.teacher, **changes.get("teacher", {})),
        student=replace(base.student, **changes.get("student", {})),
        objective=replace(base.objective, **changes.get("objective", {})),
    )


def texts_of(batch: Batch) -> list[list[int]]:
    """Token ids of each text."""
    text = batch.text
    assert text is not None
    return [text.ids[text.clip == number].tolist() for number in range(len(text.first))]


def build(settings: config.Config, gather: Callable[..., Any] | None = None) -> tuple[VideoAdviser, Any]:
    student, tokenizer = build_student(settings.student, settings.seed)
    teacher: Teacher | None = None
    if settings.teacher is not None:
        data = settings.data
        teacher = build_teacher(settings.teacher, settings.seed, frames=data.frames, frame_size=data.frame_size)
    objective = build_objective(settings, teacher, student, 8, *([gather] if gather else []))
    return VideoAdviser(teacher, student, objective), tokenizer


@pytest.mark.parametrize("name", SWITCHES)
def test_every_trainable_parameter_gets_a_finite_gradient(
    name: str, tiny: Callable[..., config.Config], make_batch: Callable[..., Batch]
) -> None:
    model, tokenizer = build(settings_of(name, tiny()))
    batch = make_batch(tokenizer)
    out = model(batch)
    out["loss"].backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        else:
            assert parameter.grad is None, key
    assert out["loss"].dtype == torch.float32
    assert out["logits"]["text"].shape == (4,)
    if model.teacher is not None:
        assert out["logits"]["scores"].shape == (4, 2)
        torch.testing.assert_close(out["logits"]["scores"].sum(dim=1), torch.ones(4))
    assert all(v.dtype == torch.float32 for v in out["logits"].values())


@pytest.mark.parametrize("name", ["the paper", "PKT", "CRD", "CCT inside", "student alone"])
def test_empty_slots_change_neither_loss_nor_gradient(
    name: str, tiny: Callable[..., config.Config], make_batch: Callable[..., Batch]
) -> None:
    """Zeros in a slot of weight 0, as collated, against a batch without the slot."""
    results = []
    for rows in (2, 4):
        model, tokenizer = build(settings_of(name, tiny()))
        batch = make_batch(tokenizer, rows=2)
        if rows == 4:
            texts = [*texts_of(batch), *tokenizer(["", ""])["input_ids"]]
            empty = {
                k: torch.cat([v, torch.zeros_like(v)]) for k, v in vars(batch).items() if isinstance(v, torch.Tensor)
            }
            batch = replace(batch, **empty, text=lay(texts))
        out = model(batch)
        out["loss"].backward()
        gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        results.append((out["loss"].detach(), out["terms"], gradients))
    torch.testing.assert_close(results[0], results[1], atol=2e-5, rtol=1e-4)


def test_cached_tokens_give_the_same_losses_bit_for_bit(
    tiny: Callable[..., config.Config], make_batch: Callable[..., Batch]
) -> None:
    model, tokenizer = build(tiny())
    assert model.teacher is not None
    batch = make_batch(tokenizer)
    visual = torch.cat([model.teacher.clip.tokens(batch.frames[i : i + 1]) for i in range(4)])
    cached = model(replace(batch, frames=None, visual=visual))
    direct = model(replace(batch, frames=None, visual=model.teacher.clip.tokens(batch.frames)))
    assert torch.equal(direct["loss"], model(batch)["loss"])
    torch.testing.assert_close(cached["loss"], direct["loss"], atol=1e-5, rtol=1e-6)


def test_checkpointed_blocks_have_the_gradients_of_kept_ones(
    tiny: Callable[..., config.Config], make_batch: Callable[..., Batch]
) -> None:
    results = []
    for keep in (False, True):
        model, tokenizer = build(tiny(cct=INSIDE, trainable_blocks=2))
        assert model.teacher is not None
        model.teacher.cct.checkpointing = not keep
        model(make_batch(tokenizer))["loss"].backward()
        results.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(results[0], results[1])


def test_new_modules_are_told_from_pretrained_ones(tiny: Callable[..., config.Config]) -> None:
    model, _ = build(tiny(trainable_blocks=1))
    old = {id(p) for p in model.pretrained_parameters()}
    new = {n for n, p in model.named_parameters() if p.requires_grad and id(p) not in old}
    assert {".".join(n.split(".")[:2]) for n in new} == {
        "teacher.cct", "teacher.mit", "teacher.face", "teacher.fuse", "teacher.context", "teacher.prompting",
        "teacher.video_logit", "teacher.prompt_logit", "student.head",
    }  # fmt: skip


def test_kd_for_sentiment_is_refused_with_the_reason(tiny: Callable[..., config.Config]) -> None:
    settings = tiny()
    settings.objective.variant = "kd"
    with pytest.raises(ValueError, match=r"objective\.variant: kd .* gradient would be exactly 0"):
        build(settings)


def train(rank: int, names: list[str], base: config.Config, batch: Batch, folder: str) -> None:
    """Three steps of each switch under one ZeRO stage after the other; leaves the losses."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "DS_ACCELERATOR": "cpu"}
    import deepspeed

    from vadv.training.distributed import join
    from vadv.training.gather import gather

    world = join(timeout=120)
    losses: dict[str, list[float]] = {}
    rows = slice(2 * rank, 2 * rank + 2)
    share = {k: v[rows] for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    mine = replace(batch, **share, text=lay(texts_of(batch)[rows]))
    for stage in (0, 2, 3):
        for name in names:
            model, _ = build(settings_of(name, base), gather)
            trained = [p for p in model.parameters() if p.requires_grad]
            engine, *_ = deepspeed.initialize(
                model=model,
                optimizer=torch.optim.AdamW(trained, lr=1e-3),
                config={
                    "train_micro_batch_size_per_gpu": 2,
                    "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
                },
            )
            found = []
            for _ in range(3):
                out = engine(mine)
                engine.backward(out["loss"] * 2 / 4)  # the engine averages over ranks
                engine.step()
                found.append(sum(world.agree([float(out["loss"].detach())], "sum")))
            losses[f"{name}/{stage}"] = found
            engine.destroy()
    if rank == 0:
        torch.save(losses, f"{folder}/losses.pt")
    world.leave()


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["the paper", "CCT inside, a block trained", "text encoder trained", "CRD"], id="some"),
        pytest.param(list(SWITCHES), id="all", marks=pytest.mark.slow),
    ],
)
def test_switches_train_under_zero(
    names: list[str],
    tiny: Callable[..., config.Config],
    make_batch: Callable[..., Batch],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stages 2 and 3 on two ranks give the losses of stage 0, which go down."""
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    base = tiny()
    _, tokenizer = build_student(base.student, 1)
    mp.spawn(train, (names, base, make_batch(tokenizer), str(tmp_path)), nprocs=2)
    losses = torch.load(tmp_path / "losses.pt")
    for name in names:
        plain = losses[f"{name}/0"]
        assert plain[2] < plain[0], name
        for stage in (2, 3):
            assert losses[f"{name}/{stage}"] == pytest.approx(plain, rel=1e-5), (name, stage)


def test_teacher_and_student_hold_no_loose_parameters(tiny: Callable[..., config.Config]) -> None:
    """What ZeRO-3 cannot gather: a parameter that its owner does not use in its own forward.

    Parameters that belong directly to a module are allowed only where that module is called as such.
    """
    model, _ = build(tiny(prompting="xclip", trainable_text=True))
    owners = {type(m).__name__ for m in model.modules() for _ in m.named_parameters(recurse=False)} - {
        "Linear",
        "LayerNorm",
        "Embedding",
        "Conv2d",
        "FullPrecisionLinear",
    }
    assert owners == {"PatchEmbedding", "TextTower", "MultiFrameTransformer", "VideoSpecificPrompting"}
    assert not any(isinstance(m, nn.MultiheadAttention) for m in model.modules())
    assert isinstance(model.student, Student)


def test_modules_with_parameters_take_and_return_tensors(
    tiny: Callable[..., config.Config], make_batch: Callable[..., Batch]
) -> None:
    """DeepSpeed's ZeRO-3 finds tensors in tuples, lists and dicts, not in dataclasses, and gathers for the backward pass
    of a module whose outputs it has found. So the modules that take or return ours may own no parameter."""
    settings = tiny(prompting="xclip", trainable_text=True)
    model, _ = build(settings)
    _, tokenizer = build_student(settings.student, 1)
    seen: dict[type, str] = {}

    def look(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        for value in (*inputs, *named.values(), *(output if isinstance(output, tuple | list) else [output])):
            seen[type(value)] = type(module).__name__

    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_hook(look, with_kwargs=True)
    model(make_batch(tokenizer))
    assert torch.Tensor in seen
    assert set(seen) <= {torch.Tensor, type(None), bool, int, float}, seen
