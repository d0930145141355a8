"""Sentiment metrics against values worked out by hand and against scikit-learn and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from vadv.metrics import sentiment, seven_classes

pytestmark = pytest.mark.filterwarnings("error")


def test_values_by_hand() -> None:
    # Sign: 3 of 4 agree. Rounded: -2.5 → -2 (half to even) = -2; 0.5 → 0 ≠ 1; 1.5 → 2 = 2; -0.4 → 0 = 0.
    scores = sentiment([-2.5, 0.5, 1.5, -0.4], [-2.0, 1.0, 2.0, 0.0])
    assert scores["mae"] == pytest.approx((0.5 + 0.5 + 0.5 + 0.4) / 4)
    assert scores["acc7"] == 0.75
    assert scores["acc5"] == 0.75
    assert scores["acc2"] == 0.75
    # Negative: precision 1/2, recall 1/1 → 2/3, support 1. Not negative: precision 1, recall 2/3 → 4/5, support 3.
    assert scores["f1"] == pytest.approx((2 / 3 + 3 * 4 / 5) / 4)
    assert scores["acc2_nonzero"] == 1.0
    assert scores["f1_nonzero"] == 1.0
    assert scores["n"] == 4


def test_half_integers_go_to_the_even_class() -> None:
    assert seven_classes([-3.7, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 9.0]).tolist() == [-3, -2, -2, 0, 0, 2, 2, 3]


def test_classes_are_clipped_on_both_sides_and_the_error_is_not() -> None:
    scores = sentiment([7.0, -7.0], [3.0, -2.6])
    assert (scores["acc7"], scores["acc5"]) == (1.0, 1.0)
    assert scores["mae"] == pytest.approx((4.0 + 4.4) / 2)


def test_zero_counts_as_positive_and_is_left_out_of_the_nonzero_scores() -> None:
    scores = sentiment([0.0, -0.1, 0.0], [0.0, 0.0, -1.0])
    assert scores["acc2"] == pytest.approx(1 / 3)
    # One row remains, its target negative; a prediction of exactly 0 is "not greater than 0", hence right.
    assert scores["acc2_nonzero"] == 1.0


@given(st.lists(st.tuples(st.integers(-16, 16), st.integers(-15, 15)), min_size=2, max_size=60))
def test_equal_to_scikit_learn_and_scipy(rows: list[tuple[int, int]]) -> None:
    p, t = np.array([row[0] / 4 for row in rows]), np.array([row[1] / 5 for row in rows])
    scores = sentiment(p, t)
    assert scores["mae"] == pytest.approx(mean_absolute_error(t, p))
    for bound, key in ((3, "acc7"), (2, "acc5")):
        assert scores[key] == pytest.approx(
            accuracy_score(np.round(np.clip(t, -bound, bound)), np.round(np.clip(p, -bound, bound)))
        )
    assert scores["acc2"] == pytest.approx(accuracy_score(t >= 0, p >= 0))
    assert scores["f1"] == pytest.approx(f1_score(t >= 0, p >= 0, average="weighted", zero_division=0))
    some = t != 0
    if some.any():
        assert scores["acc2_nonzero"] == pytest.approx(accuracy_score(t[some] > 0, p[some] > 0))
        expected = f1_score(t[some] > 0, p[some] > 0, average="weighted", zero_division=0)
        assert scores["f1_nonzero"] == pytest.approx(expected)
    else:
        assert math.isnan(scores["acc2_nonzero"]) and math.isnan(scores["f1_nonzero"])
    if np.ptp(p) and np.ptp(t):
        assert scores["corr"] == pytest.approx(pearsonr(p, t).statistic, abs=1e-9)
    else:
        assert scores["corr"] == 0.0


def test_constant_inputs_have_no_correlation_and_no_warning() -> None:
    assert sentiment(np.full(7, 0.1, np.float32), np.linspace(-1, 1, 7))["corr"] == 0.0
    assert sentiment(np.linspace(-1, 1, 7), np.full(7, 0.1))["corr"] == 0.0
    assert sentiment([0.3], [0.3])["corr"] == 0.0


@pytest.mark.parametrize("scale", [1e-200, 1e150])
def test_correlation_survives_extreme_scales(scale: float) -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert sentiment(x * scale, x)["corr"] == pytest.approx(1.0)


def test_columns_and_integers_are_taken() -> None:
    assert sentiment(np.array([[1], [-1]]), np.array([1, -1]))["mae"] == 0.0


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        ([], [], "at least one row"),
        ([1.0], [1.0, 2.0], "found 1 and 2"),
        ([1.0, math.nan], [1.0, 2.0], r"prediction, found nan in row 1 \(1 such of 2\)"),
        ([1.0, 2.0], [math.inf, math.nan], r"target, found inf in row 0 \(2 such of 2\)"),
        ([[1.0, 2.0]], [1.0], r"shape \(N,\) or \(N, 1\), found \(1, 2\)"),
    ],
)
def test_bad_input_is_named(prediction: list[float], target: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sentiment(prediction, target)
