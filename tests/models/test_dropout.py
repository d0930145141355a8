"""Dropout is a function of the sample, not of where and with whom it is computed."""

from __future__ import annotations

import torch

from vadv import config
from vadv.models import build_student
from vadv.models.batch import Batch
from vadv.models.dropout import KeyedDropout, NoiseKeys, keep_mask
from vadv.models.text import lay

KEYS = torch.tensor([0, 1, 2, 2**62 + 12345, 2**63 - 1, 987654321987654321])


def masks_of(keys: torch.Tensor, number: int, length: int, width: int, p: float) -> torch.Tensor:
    """One text of `length` tokens in a row for each key."""
    places = torch.arange(length).expand(len(keys), -1)
    return keep_mask(keys[:, None].expand(-1, length), places, number, width, p)


def test_rate_is_p() -> None:
    for p in (0.1, 0.5, 0.9):
        share = 1 - masks_of(KEYS, 3, 100, 1024, p).float().mean(dim=(1, 2))
        deviation = (p * (1 - p) / 102400) ** 0.5
        assert ((share - p).abs() < 4 * deviation).all(), share


def test_masks_of_samples_modules_and_places_are_unrelated() -> None:
    masks = torch.stack([masks_of(KEYS, number, 64, 256, 0.5).flatten(1) for number in range(8)]).flatten(0, 1)
    signs = masks.float() * 2 - 1
    correlation = signs @ signs.T / signs.shape[1]
    correlation.fill_diagonal_(0)
    assert correlation.abs().max() < 5 / signs.shape[1] ** 0.5
    for shift in (1, 256, 257):
        assert (signs[:, shift:] * signs[:, :-shift]).mean(dim=1).abs().max() < 5 / signs.shape[1] ** 0.5


def test_padding_does_not_move_the_mask() -> None:
    long, short = masks_of(KEYS, 1, 77, 32, 0.3), masks_of(KEYS, 1, 5, 32, 0.3)
    assert torch.equal(long[:, :5], short)


def test_neighbours_do_not_matter() -> None:
    whole = masks_of(KEYS, 1, 9, 32, 0.3)
    assert torch.equal(whole[2:4], masks_of(KEYS[2:4], 1, 9, 32, 0.3))


def test_known_mask() -> None:
    """Fixed for good: a resumed run must drop what the first one would have."""
    bits = masks_of(torch.tensor([123456789012345]), 7, 2, 12, 0.25).int()[0]
    assert "".join(map(str, bits.flatten().tolist())) == "110010011111110111110101"


def test_expectation_and_gradient() -> None:
    noise = NoiseKeys()
    noise.keys, noise.places = KEYS[:, None].expand(-1, 200), torch.arange(200).expand(len(KEYS), -1)
    layer = KeyedDropout(0.25, 0, noise)
    x = torch.ones(len(KEYS), 200, 64, requires_grad=True)
    y = layer(x)
    assert abs(float(y.detach().mean()) - 1) < 0.01
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert layer.eval()(x) is x


def test_global_generator_is_neither_read_nor_moved() -> None:
    student, tokenizer = build_student(config.Student(model="tiny-bert", weights="random", dropout=0.2), seed=1)
    texts = tokenizer(["I love it", "it is so very bad that I left"])["input_ids"]

    def run(*numbers: int) -> torch.Tensor:
        batch = Batch(
            weight=torch.ones(len(numbers)),
            label=torch.zeros(len(numbers)),
            index=torch.zeros(len(numbers), dtype=torch.int64),
            noise=KEYS[list(numbers)],
            text=lay([texts[number] for number in numbers]),
        )
        return student(batch).logit.detach()

    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = run(0, 1)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(first, run(0, 1))
    torch.testing.assert_close(first, torch.cat([run(0), run(1)]), atol=1e-6, rtol=0)
    torch.testing.assert_close(first, run(1, 0).flip(0), atol=1e-6, rtol=0)
    student.eval()
    assert (first - run(0, 1)).abs().max() > 1e-4
