"""Each distiller against its published formula in numpy, and its gradient against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vadv.models.batch import Batch
from vadv.objectives.distillers.crd import CRD
from vadv.objectives.distillers.fitnet import FitNet
from vadv.objectives.distillers.kd import KD
from vadv.objectives.distillers.pkt import PKT
from vadv.objectives.distillers.step import Step
from vadv.objectives.transfer import Transfer, alone

ROWS, CLIPS, NEGATIVES = 5, 9, 4


def batch_of(weight: list[float], index: list[int] | None = None) -> Batch:
    n = len(weight)
    return Batch(
        weight=torch.tensor(weight),
        label=torch.zeros(n),
        index=torch.tensor(index if index is not None else list(range(n))),
        noise=torch.arange(n) * 104729 + 17,
    )


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def inputs(wt: int, ws: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, wt, generator=g), torch.randn(ROWS, ws, generator=g)


def test_step_is_the_mean_square_of_logits() -> None:
    t, s = inputs(1, 1)
    expected = (t.numpy() - s.numpy())[:, 0] ** 2
    np.testing.assert_allclose(Step()(t, s, batch_of([1.0] * ROWS)).numpy(), expected, rtol=1e-6)
    t, s = inputs(10, 10)
    assert float(Step()(t, s, batch_of([1.0] * ROWS)).mean()) == pytest.approx(float(((t - s) ** 2).mean()))


def test_kd_is_scaled_divergence_of_softened_classes() -> None:
    t, s = inputs(10, 10)
    p, q = softmax(t.numpy() / 4), softmax(s.numpy() / 4)
    expected = 16 * (p * np.log(p / q)).sum(axis=1)
    np.testing.assert_allclose(KD(4.0)(t, s, batch_of([1.0] * ROWS)).numpy(), expected, rtol=1e-4, atol=1e-6)


def test_kd_of_one_column_is_nothing() -> None:
    """Why it is refused for sentiment."""
    t, s = inputs(1, 1)
    s.requires_grad_()
    loss = KD(4.0)(t, s, batch_of([1.0] * ROWS)).sum()
    loss.backward()
    assert float(loss.detach()) == 0 and float(s.grad.abs().max()) == 0


def test_fitnet_is_the_mean_square_after_a_regressor() -> None:
    t, s = inputs(7, 6)
    fitnet = FitNet(7, 6)
    w, b = (p.detach().numpy() for p in (fitnet.regressor.weight, fitnet.regressor.bias))
    expected = ((s.numpy() @ w.T + b - t.numpy()) ** 2).mean(axis=1)
    np.testing.assert_allclose(fitnet(t, s, batch_of([1.0] * ROWS)).detach().numpy(), expected, rtol=1e-5)


def pkt_numpy(t: np.ndarray, s: np.ndarray) -> float:
    """RepDistiller's PKT.cosine_similarity_loss(output_net=s, target_net=t)."""
    eps = 1e-7
    s = s / (np.linalg.norm(s, axis=1, keepdims=True) + eps)
    t = t / (np.linalg.norm(t, axis=1, keepdims=True) + eps)
    ms, mt = (s @ s.T + 1) / 2, (t @ t.T + 1) / 2
    ms, mt = ms / ms.sum(axis=1, keepdims=True), mt / mt.sum(axis=1, keepdims=True)
    return float((mt * np.log((mt + eps) / (ms + eps))).mean())


def test_pkt_is_the_divergence_of_similarities() -> None:
    t, s = inputs(7, 6)
    per_clip = PKT("hidden", alone)(t, s, batch_of([1.0] * ROWS))
    assert float(per_clip.sum()) / ROWS == pytest.approx(pkt_numpy(t.numpy(), s.numpy()), rel=1e-4)


class CRDNumpy:
    """RepDistiller's CRDLoss with ContrastMemory and ContrastLoss, negatives given."""

    def __init__(self, crd: CRD) -> None:
        self.n, self.m, self.z = crd.clips, crd.negatives, [-1.0, -1.0]
        self.maps = [
            (e.weight.detach().double().numpy(), e.bias.detach().double().numpy())
            for e in (crd.embed_teacher, crd.embed_student)
        ]
        self.memory = [
            b.view(torch.float32)[:-1].double().numpy().copy() for b in (crd.memory_teacher, crd.memory_student)
        ]

    def __call__(self, t: np.ndarray, s: np.ndarray, index: np.ndarray, others: np.ndarray) -> np.ndarray:
        f = [x @ w.T + b for x, (w, b) in zip((t, s), self.maps, strict=True)]
        f = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in f]
        chosen = np.concatenate([index[:, None], others], axis=1)
        loss = np.zeros(len(index))
        # The student against the teacher's memory fixes z[0]; the teacher against the student's, z[1].
        for k, (mine, memory) in enumerate(((f[1], self.memory[0]), (f[0], self.memory[1]))):
            out = np.exp(np.einsum("bkd,bd->bk", memory[chosen], mine) / 0.07)
            if self.z[k] < 0:
                self.z[k] = out.mean() * self.n
            out = out / self.z[k]
            c = self.m / self.n
            loss -= np.log(out[:, 0] / (out[:, 0] + c + 1e-7)) + np.log(c / (out[:, 1:] + c + 1e-7)).sum(axis=1)
        for memory, mine in zip(self.memory, f, strict=True):
            moved = 0.5 * memory[index] + 0.5 * mine
            memory[index] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        return loss


@pytest.mark.parametrize("negatives", [NEGATIVES, 10_000])
def test_crd_over_three_batches(negatives: int) -> None:
    """Loss, memories and the normaliser fixed by the first batch."""
    torch.manual_seed(0)
    crd = CRD(7, 6, CLIPS, negatives, alone)
    reference = CRDNumpy(crd)
    for step, index in enumerate(([0, 1, 2, 3, 4], [5, 6, 7, 8, 0], [4, 2, 0, 1, 3])):
        t, s = inputs(7, 6, seed=step)
        batch = batch_of([1.0] * ROWS, index)
        others = crd._others(batch.index, batch.noise).numpy()
        loss = crd(t, s, batch)
        expected = reference(t.double().numpy(), s.double().numpy(), np.array(index), others)
        np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=2e-4)
        for ours, theirs in zip((crd.memory_teacher, crd.memory_student), reference.memory, strict=True):
            np.testing.assert_allclose(ours.view(torch.float32)[:-1].numpy(), theirs, atol=1e-5)
    np.testing.assert_allclose(crd.normaliser.view(torch.float32).numpy(), reference.z, rtol=1e-4)


def test_crd_negatives_are_other_clips_and_repeat() -> None:
    crd = CRD(4, 4, 1000, 64, alone)
    index, noise = torch.arange(500), torch.arange(500) * 31 + 7
    others = crd._others(index, noise)
    assert others.shape == (500, 64) and not (others == index[:, None]).any()
    assert int(others.min()) >= 0 and int(others.max()) < 1000
    torch.manual_seed(3)
    assert torch.equal(others, crd._others(index, noise))
    assert not torch.equal(others, crd._others(index, noise + 1))
    counts = torch.bincount(others.flatten(), minlength=1000).float()
    assert abs(float(counts.mean()) - 32) < 0.1 and float(counts.max()) < 32 + 6 * 32**0.5
    everyone = CRD(4, 4, 9, 10_000, alone)._others(torch.tensor([3]), torch.tensor([0]))
    assert sorted(everyone[0].tolist()) == [0, 1, 2, 4, 5, 6, 7, 8]


def test_crd_memory_survives_a_cast_to_bfloat16() -> None:
    crd = CRD(4, 4, 5, 4, alone)
    before = crd.memory_teacher.clone()
    crd.bfloat16()
    assert crd.embed_teacher.weight.dtype == torch.bfloat16 and torch.equal(crd.memory_teacher, before)
    assert crd(torch.randn(2, 4), torch.randn(2, 4), batch_of([1.0, 1.0])).dtype == torch.float32


def test_crd_state_resumes() -> None:
    torch.manual_seed(0)
    first, second = (CRD(7, 6, CLIPS, NEGATIVES, alone) for _ in range(2))
    t, s = inputs(7, 6)
    first(t, s, batch_of([1.0] * ROWS))
    second.load_state_dict(first.state_dict())
    t, s = inputs(7, 6, seed=1)
    assert torch.equal(first(t, s, batch_of([1.0] * ROWS)), second(t, s, batch_of([1.0] * ROWS)))


def make(name: str) -> tuple[Transfer, int, int]:
    torch.manual_seed(1)
    return {
        "step": lambda: (Step(), 3, 3),
        "kd": lambda: (KD(4.0), 5, 5),
        "fitnet": lambda: (FitNet(7, 6), 7, 6),
        "pkt": lambda: (PKT("hidden", alone), 7, 6),
        "crd": lambda: (CRD(7, 6, CLIPS, NEGATIVES, alone), 7, 6),
    }[name]()


NAMES = pytest.mark.parametrize("name", ["step", "kd", "fitnet", "pkt", "crd"])


@NAMES
def test_gradients_match_finite_differences(name: str) -> None:
    """Central differences along random directions, in both inputs and all weights."""
    transfer, wt, ws = make(name)
    t, s = (x.requires_grad_() for x in inputs(wt, ws))
    batch = batch_of([1.0] * ROWS)
    transfer(t, s, batch)  # fixes CRD's normaliser, which is no function of the inputs afterwards
    memories = {k: v.clone() for k, v in transfer.named_buffers()}

    def value() -> Tensor:
        for key, buffer in transfer.named_buffers():  # CRD's memories move with each call
            buffer.copy_(memories[key])
        return transfer(t, s, batch).sum()

    parts: list[Tensor] = [t, s, *transfer.parameters()]
    value().backward()
    slope, step = 0.0, 1e-3
    directions = [torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) for i, x in enumerate(parts)]
    for x, d in zip(parts, directions, strict=True):
        slope += float((x.grad * d).sum())
    results = []
    with torch.no_grad():
        for sign in (1, -1):
            for x, d in zip(parts, directions, strict=True):
                x += sign * step * d
            results.append(float(value()))
            for x, d in zip(parts, directions, strict=True):
                x -= sign * step * d
    assert (results[0] - results[1]) / (2 * step) == pytest.approx(slope, rel=2e-2, abs=2e-3)


@NAMES
@pytest.mark.parametrize("junk", [0.0, float("nan")])
def test_masked_equals_dropped(name: str, junk: float) -> None:
    """Clips of weight 0 change neither the losses nor the gradients of the others, nor any state."""
    results: list[dict[str, Any]] = []
    for masked in (True, False):
        transfer, wt, ws = make(name)
        t, s = inputs(wt, ws)
        kept = torch.tensor([True, False, True, True, False])
        batch = batch_of([1.0, 0.0, 1.0, 1.0, 0.0], [2, 0, 4, 1, 0])
        if masked:
            # As `Joint` hands them over: zeros in the rows that do not count, whatever was there.
            t[~kept], s[~kept] = junk, junk
            t, s = (torch.where(kept[:, None], x, 0.0) for x in (t, s))
        else:
            t, s = t[kept], s[kept]
            batch = Batch(
                weight=batch.weight[kept], label=batch.label[kept], index=batch.index[kept], noise=batch.noise[kept]
            )
        t.requires_grad_(), s.requires_grad_()
        for _ in range(2):
            loss = transfer(t, s, batch)
            (loss * batch.weight).sum().backward()
        rows = kept if masked else torch.ones(3, dtype=torch.bool)
        state = {k: v[:-1] if "memory" in k else v for k, v in transfer.state_dict().items()}
        results.append(
            {
                "loss": loss.detach()[rows],
                "t": t.grad[rows],
                "s": s.grad[rows],
                **{k: v for k, v in state.items() if v.dtype != torch.int32},
                **{k: v.view(torch.float32) for k, v in state.items() if v.dtype == torch.int32},
                **{f"d{k}": p.grad for k, p in transfer.named_parameters()},
            }
        )
        assert masked is False or not t.grad[~kept].abs().max() > 0
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


@NAMES
def test_a_batch_without_any_clip_is_harmless(name: str) -> None:
    transfer, wt, ws = make(name)
    t, s = (torch.zeros(ROWS, w, requires_grad=True) for w in (wt, ws))
    before = {k: v.clone() for k, v in transfer.state_dict().items()}
    batch = batch_of([0.0] * ROWS, [0] * ROWS)
    total = (transfer(t, s, batch) * batch.weight).sum()
    total.backward()
    assert float(total.detach()) == 0 and t.grad.isfinite().all() and s.grad.isfinite().all()
    for key, value in transfer.state_dict().items():
        assert torch.equal(value[: len(value) - ("memory" in key)], before[key][: len(value) - ("memory" in key)])
