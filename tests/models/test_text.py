"""Texts share rows and stay strangers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from vadv.models.text import FILLER, ROW, WASTE, lay


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=80))
def test_every_token_has_one_place(lengths: list[int]) -> None:
    texts = [[1000 * number + place for place in range(size)] for number, size in enumerate(lengths)]
    text = lay(texts)
    total, (rows, length) = sum(lengths), text.ids.shape
    found = [[] for _ in lengths]
    for ids, clips, places in zip(text.ids.tolist(), text.clip.tolist(), text.place.tolist(), strict=True):
        for token, clip, place in zip(ids, clips, places, strict=True):
            if clip != FILLER:
                found[clip].append((place, token))
    assert [[token for _, token in sorted(tokens)] for tokens in found] == texts
    flat = text.ids.flatten()[text.first].tolist()
    assert flat == [tokens[0] for tokens in texts]
    assert text.filler == rows * length - total <= WASTE * rows * length
    assert rows <= -(-total // ROW)


def test_attention_stays_within_a_text() -> None:
    text = lay([[7, 8], [9, 10, 11]])
    assert text.ids.tolist() == [[9, 10, 11, 7, 8]] and text.place.tolist() == [[0, 1, 2, 0, 1]]
    assert text.mask.int().tolist() == [[[[1, 1, 1, 0, 0]] * 3 + [[0, 0, 0, 1, 1]] * 2]]


def test_long_texts_keep_rows_of_their_own() -> None:
    text = lay([[1] * 250, [2] * 250, [3] * 250])
    assert text.ids.shape == (3, 250) and text.filler == 0
