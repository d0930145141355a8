"""The EICS-style students and their losses against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vadv import config
from vadv.models.batch import Batch
from vadv.models.eics import ModalityStudent, SpaceOutput, build_students, retrieval_vector
from vadv.objectives.spaces import SpaceLoss

B, C = 6, 4


def batch(weight: list[float] | None = None, seed: int = 0) -> Batch:
    """Random features of 6 clips in 4 classes."""
    g = torch.Generator().manual_seed(seed)
    return Batch(
        weight=torch.tensor(weight or [1.0] * B),
        label=torch.arange(B) % C,
        index=torch.arange(B),
        noise=torch.arange(B),
        audio=torch.randn(B, 12, generator=g),
        image=torch.randn(B, 20, generator=g),
    )


def students() -> dict[str, ModalityStudent]:
    """Students of these widths."""
    return build_students({"audio": 12, "visual": 20}, hidden=128, classes=C, seed=3)


def outputs(b: Batch) -> dict[str, SpaceOutput]:
    made = students()
    assert b.audio is not None and b.image is not None
    return {"audio": made["audio"](b.audio), "visual": made["visual"](b.image)}


def test_the_logit_is_the_sum_of_the_spaces() -> None:
    out = outputs(batch())["audio"]
    assert out.logit.shape == out.explicit.shape == out.implicit.shape == (B, C)
    torch.testing.assert_close(out.logit, out.explicit + out.implicit)
    assert out.hidden.shape == out.representation.shape == (B, 256)
    assert students()["audio"].head.widths == (256, 256, C)


def test_students_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = students()
    torch.manual_seed(6)
    second = students()
    for name in first:
        for a, b in zip(first[name].parameters(), second[name].parameters()):
            assert torch.equal(a, b)


def test_features_are_standardised_with_the_training_clips() -> None:
    student = ModalityStudent(5, 8, C)
    features = torch.randn(100, 5) * torch.tensor([1.0, 50.0, 0.01, 3.0, 0.0]) + 7
    student.standardise(features)
    seen = (features - student.mean) / student.std
    torch.testing.assert_close(seen[:, :4].mean(0), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen[:, :4].std(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    assert torch.equal(seen[:, 4], torch.zeros(100))  # a constant feature says nothing


def test_a_wrong_width_is_told() -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 12\), found \(6, 20\)"):
        students()["audio"](batch().image)


def test_space_losses_equal_numpy() -> None:
    b = batch([1, 1, 0, 1, 1, 0])
    out = outputs(b)
    total, terms = SpaceLoss(0.5, 2.0)(out, b)
    e_a, e_v, i_a, i_v = (x.detach().double().numpy() for x in (
        out["audio"].explicit, out["visual"].explicit, out["audio"].implicit, out["visual"].implicit
    ))  # fmt: skip
    explicit = implicit = 0.0
    for i in range(B):
        if b.weight[i] == 0:
            continue
        y = np.eye(C)[int(b.label[i])]
        explicit += sum((e_a[i, c] - e_v[i, c]) ** 2 for c in range(C)) / C
        implicit += sum((i_a[i, c] - y[c]) ** 2 + (i_v[i, c] - y[c]) ** 2 for c in range(C)) / C
    assert terms["explicit"].item() == pytest.approx(explicit, rel=1e-5)
    assert terms["implicit"].item() == pytest.approx(implicit, rel=1e-5)
    assert total.item() == pytest.approx(0.5 * explicit + 2.0 * implicit, rel=1e-5)


def test_an_empty_slot_changes_no_loss_and_no_gradient() -> None:
    from vadv.models.audiovisual import AudioVisualAdviser
    from vadv.objectives.build import build_objective

    def loss_and_gradient(b: Batch) -> tuple[float, torch.Tensor]:
        settings = config.Config(task="retrieval", teacher=None)
        made = students()
        objective = build_objective(settings, None, made, 10, labels="class")
        module = AudioVisualAdviser(None, made, objective, SpaceLoss(1, 1))
        loss = module(b)["loss"]
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])

    whole = batch([1, 1, 1, 1, 0, 0])
    assert whole.audio is not None
    strange = batch([1, 1, 1, 1, 0, 0])
    assert strange.audio is not None and strange.image is not None
    strange.audio[4:] = 1e4
    strange.image[4:] = -1e4
    strange.label[4:] = 999
    first, second = loss_and_gradient(whole), loss_and_gradient(strange)
    assert first[0] == second[0]
    torch.testing.assert_close(first[1], second[1], rtol=0, atol=0)


def test_the_joint_loss_equals_numpy() -> None:
    """Fig. 4 term by term: CE for every logit and the prompts, both steps, both spaces, from given outputs."""
    from vadv.models.outputs import Output, TeacherOutput
    from vadv.objectives.distillers.step import Step
    from vadv.objectives.joint import Joint

    b = batch([1, 1, 1, 1, 1, 0])
    g = torch.Generator().manual_seed(9)

    def output() -> Output:
        return Output(logit=torch.randn(B, C, generator=g), hidden=torch.zeros(B, 2), representation=torch.zeros(B, 2))

    teacher = TeacherOutput(video=output(), prompt=output(), scores=torch.randn(B, C, generator=g).log_softmax(1))
    settings = config.Objective(alpha=1, beta=10, gamma=1, delta=10, psi=1)
    learners = outputs(b)
    joint = Joint(settings, labels="class", first=Step(), second={"audio": Step(), "visual": Step()})
    total, terms = joint(teacher, learners, b)

    def ce(logit: np.ndarray, y: int) -> float:
        return float(np.log(np.exp(logit).sum()) - logit[y])

    expected = dict.fromkeys(terms, 0.0)
    arrays = {"video": teacher.video.logit, "prompt": teacher.prompt.logit, **{k: v.logit for k, v in learners.items()}}
    arrays = {name: value.detach().double().numpy() for name, value in arrays.items()}
    for i in range(5):
        y = int(b.label[i])
        for name in ("video", "audio", "visual"):
            expected[f"{name}_ce"] += ce(arrays[name][i], y)
        expected["prompt_ce"] += -float(teacher.scores[i, y])
        expected["prompt_to_video"] += float(np.mean((arrays["prompt"][i] - arrays["video"][i]) ** 2))
        for name in ("audio", "visual"):
            expected[f"video_to_{name}"] += float(np.mean((arrays["video"][i] - arrays[name][i]) ** 2))
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-5), name
    e = expected
    whole = e["video_ce"] + 10 * (e["audio_ce"] + e["visual_ce"]) + e["prompt_ce"] + 10 * e["prompt_to_video"]
    assert total.item() == pytest.approx(whole + e["video_to_audio"] + e["video_to_visual"], rel=1e-5)


def test_probabilities_are_the_softmax_of_logits() -> None:
    logit = torch.randn(3, C)
    assert torch.equal(retrieval_vector(logit, "logits"), logit)
    torch.testing.assert_close(retrieval_vector(logit, "probabilities"), logit.softmax(1))


def test_both_spaces_matter() -> None:
    """On clusters that neither modality shows fully, training brings a pair's logits together and classes apart."""
    g = torch.Generator().manual_seed(1)
    label = torch.arange(200) % C
    centres = torch.randn(C, 12, generator=g), torch.randn(C, 20, generator=g)
    audio, visual = (c[label] + torch.randn(200, c.shape[1], generator=g) for c in centres)
    b = Batch(
        weight=torch.ones(200), label=label, index=label, noise=label, audio=audio, image=visual
    )  # fmt: skip
    made = students()
    optimizer = torch.optim.Adam([p for s in made.values() for p in s.parameters()], lr=1e-2)
    spaces = SpaceLoss(1, 1)
    before = spaces({"audio": made["audio"](audio), "visual": made["visual"](visual)}, b)[1]
    for _ in range(60):
        optimizer.zero_grad()
        spaces({"audio": made["audio"](audio), "visual": made["visual"](visual)}, b)[0].backward()
        optimizer.step()
    after = spaces({"audio": made["audio"](audio), "visual": made["visual"](visual)}, b)[1]
    assert after["explicit"] < 0.2 * before["explicit"]
    assert after["implicit"] < 0.2 * before["implicit"]
