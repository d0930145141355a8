"""The joint loss: eqs. 10 to 15 by hand, and how it treats empty slots, detaching and missing parts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from vadv import config
from vadv.models.batch import Batch
from vadv.models.outputs import Output, TeacherOutput
from vadv.objectives.distillers.crd import CRD
from vadv.objectives.distillers.fitnet import FitNet
from vadv.objectives.distillers.step import Step
from vadv.objectives.joint import Joint
from vadv.objectives.transfer import alone

VIDEO, PROMPT, TEXT = [0.5, -1.0, 2.0], [0.1, 0.2, -0.3], [1.0, -2.0, 0.25]
LABEL, WEIGHT = [1.0, -0.5, 0.0], [1.0, 1.0, 1.0]
SCORES = [[0.4, 0.6], [0.7, 0.3], [0.2, 0.8]]


def output(logit: list[float]) -> Output:
    x = torch.tensor(logit)[:, None].requires_grad_()
    return Output(logit=x, hidden=x.repeat(1, 4), representation=x.repeat(1, 3))


def case(**changes: Any) -> tuple[TeacherOutput, dict[str, Output], Batch]:
    values = {"video": VIDEO, "prompt": PROMPT, "text": TEXT, "label": LABEL, "weight": WEIGHT} | changes
    teacher = TeacherOutput(
        video=output(values["video"]),
        prompt=output(values["prompt"]),
        scores=torch.tensor(SCORES[: len(values["video"])]).log().requires_grad_(),
    )
    batch = Batch(
        weight=torch.tensor(values["weight"]),
        label=torch.tensor(values["label"]),
        index=torch.arange(len(values["label"])),
        noise=torch.arange(len(values["label"])),
    )
    return teacher, {"text": output(values["text"])}, batch


def joint(**settings: Any) -> Joint:
    return Joint(config.Objective(**settings), labels="real", first=Step(), second={"text": Step()})


def test_equations_by_hand() -> None:
    teacher, students, batch = case()
    loss, terms = joint()(teacher, students, batch)
    expected = {
        "video_mse": 0.25 + 0.25 + 4.0,
        "text_mse": 0.0 + 2.25 + 0.0625,
        # l^(c): 1.0 and 0.0 are positive (the second class), -0.5 is negative.
        "prompt_ce": -(math.log(0.6) + math.log(0.7) + math.log(0.8)),
        "prompt_to_video": 0.16 + 1.44 + 5.29,
        "video_to_text": 0.25 + 1.0 + 3.0625,
    }
    assert {k: float(v) for k, v in terms.items()} == pytest.approx(expected, rel=1e-6)
    factors = {"video_mse": 1, "text_mse": 10, "prompt_ce": 1, "prompt_to_video": 10, "video_to_text": 1}
    assert float(loss.detach()) == pytest.approx(sum(factors[k] * v for k, v in expected.items()), rel=1e-6)


def test_no_side_of_a_step_is_detached() -> None:
    """Eqs. 13 and 14 draw both of their sides together."""
    teacher, students, batch = case()
    joint(alpha=0, beta=0, gamma=0, delta=1, psi=1)(teacher, students, batch)[0].backward()
    p, v, t = (torch.tensor(x) for x in (PROMPT, VIDEO, TEXT))
    torch.testing.assert_close(teacher.prompt.logit.grad[:, 0], 2 * (p - v))
    torch.testing.assert_close(teacher.video.logit.grad[:, 0], 2 * (v - p) + 2 * (v - t))
    torch.testing.assert_close(students["text"].logit.grad[:, 0], 2 * (t - v))


def test_detach_teacher_stops_the_second_step_at_the_video_logit() -> None:
    teacher, students, batch = case()
    joint(alpha=0, beta=0, gamma=0, delta=0, psi=1, detach_teacher=True)(teacher, students, batch)[0].backward()
    assert teacher.video.logit.grad is None
    torch.testing.assert_close(students["text"].logit.grad[:, 0], 2 * (torch.tensor(TEXT) - torch.tensor(VIDEO)))


@pytest.mark.parametrize("junk", [0.0, 1e30, float("nan"), float("inf")])
def test_weight_zero_equals_dropping(junk: float) -> None:
    full = case(
        video=[*VIDEO[:2], junk], prompt=[*PROMPT[:2], junk], text=[*TEXT[:2], junk], label=[*LABEL[:2], junk],
        weight=[1.0, 1.0, 0.0],
    )  # fmt: skip
    short = case(video=VIDEO[:2], prompt=PROMPT[:2], text=TEXT[:2], label=LABEL[:2], weight=[1.0, 1.0])
    results = []
    for teacher, students, batch in (full, short):
        loss, terms = joint()(teacher, students, batch)
        loss.backward()
        gradients = [x.logit.grad[:2] for x in (teacher.video, teacher.prompt, students["text"])]
        results.append((loss, terms, gradients, teacher.scores.grad[:2]))
    torch.testing.assert_close(results[0], results[1])
    assert float(full[0].video.logit.grad[2].abs()) == 0


def test_weight_zero_weighs_nothing_where_the_loss_of_zeros_is_something() -> None:
    """Cross entropy of K zeros is log K, and FitNet's regressor has a bias."""
    results = []
    for rows in (3, 2):
        torch.manual_seed(0)
        logits = {name: torch.randn(3, 5)[:rows] for name in ("video", "prompt", "audio", "scores")}
        outputs = {k: Output(logit=v, hidden=v, representation=v) for k, v in logits.items()}
        scores = logits["scores"].log_softmax(1)
        teacher = TeacherOutput(video=outputs["video"], prompt=outputs["prompt"], scores=scores)
        label = torch.tensor([4, 0, 2])[:rows]
        batch = Batch(weight=torch.tensor([1.0, 1.0, 0.0])[:rows], label=label, index=label, noise=label)
        objective = Joint(config.Objective(), labels="class", first=Step(), second={"audio": FitNet(5, 5)})
        results.append(objective(teacher, {"audio": outputs["audio"]}, batch))
    torch.testing.assert_close(results[0], results[1])


def test_sums_over_micro_batches_are_the_sum() -> None:
    teacher, students, batch = case()
    whole = joint()(teacher, students, batch)[0].detach()
    parts = []
    for rows in (slice(0, 1), slice(1, 3)):
        t = TeacherOutput(
            video=output(VIDEO[rows]), prompt=output(PROMPT[rows]), scores=torch.tensor(SCORES[rows]).log()
        )
        b = Batch(weight=batch.weight[rows], label=batch.label[rows], index=batch.index[rows], noise=batch.noise[rows])
        parts.append(joint()(t, {"text": output(TEXT[rows])}, b)[0].detach())
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-6)


def test_without_a_teacher_only_the_text_is_left() -> None:
    _, students, batch = case()
    loss, terms = Joint(config.Objective(), labels="real")(None, students, batch)
    assert set(terms) == {"text_mse"} and float(loss.detach()) == pytest.approx(10 * float(terms["text_mse"]))


def test_classes_are_classified_and_several_students_taught() -> None:
    """The wiring of audio-visual retrieval: cross entropy, K-wide logits, one term per student."""
    torch.manual_seed(0)
    logits = {name: torch.randn(3, 5) for name in ("video", "prompt", "audio", "visual")}
    outputs = {k: Output(logit=v, hidden=v, representation=v) for k, v in logits.items()}
    teacher = TeacherOutput(video=outputs["video"], prompt=outputs["prompt"], scores=torch.randn(3, 5).log_softmax(1))
    label = torch.tensor([4, 0, 2])
    batch = Batch(weight=torch.ones(3), label=label, index=label, noise=label)
    objective = Joint(config.Objective(), labels="class", first=Step(), second={"audio": Step(), "visual": Step()})
    _, terms = objective(teacher, {k: outputs[k] for k in ("audio", "visual")}, batch)
    names = {"audio_ce", "visual_ce", "video_ce", "prompt_ce", "prompt_to_video", "video_to_audio", "video_to_visual"}
    assert set(terms) == names
    expected = -logits["audio"].log_softmax(1)[torch.arange(3), label].sum()
    assert float(terms["audio_ce"]) == pytest.approx(float(expected), rel=1e-6)
    squares = ((logits["video"] - logits["visual"]) ** 2).mean(dim=1).sum()
    assert float(terms["video_to_visual"]) == pytest.approx(float(squares), rel=1e-6)


def test_terms_of_whole_batches_are_zero_in_evaluation() -> None:
    """CRD's memory holds training clips: an evaluated clip is none of them, and must not move it."""
    objective = Joint(config.Objective(), labels="real", first=Step(), second={"text": CRD(3, 3, 5, 4, alone)}).eval()
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    _, terms = objective(*case())
    assert float(terms["crd"]) == 0 and float(terms["prompt_to_video"]) > 0
    assert all(torch.equal(v, before[k]) for k, v in objective.state_dict().items())


def test_loss_is_float32_whatever_the_outputs_are_made_of() -> None:
    teacher, students, batch = case()
    loss, terms = joint()(teacher, students, batch)
    assert loss.dtype == torch.float32 and {v.dtype for v in terms.values()} == {torch.float32}
    assert not any(v.requires_grad for v in terms.values())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"video.logit", "scores", "prompt.logit"}),
        ({"delta": 0.0}, {"video.logit", "scores"}),
        ({"delta": 0.0, "gamma": 0.0}, {"video.logit"}),
        ({"alpha": 0.0, "delta": 0.0, "detach_teacher": True}, {"scores"}),
    ],
)
def test_uses_names_what_gradients_reach(settings: dict[str, Any], expected: set[str]) -> None:
    objective = joint(**settings)
    assert objective.uses == expected
    teacher, students, batch = case()
    objective(teacher, students, replace(batch))[0].backward()
    reached = {
        name
        for name, leaf in (
            ("video.logit", teacher.video.logit),
            ("prompt.logit", teacher.prompt.logit),
            ("scores", teacher.scores),
        )
        if leaf.grad is not None
    }
    assert reached == expected
