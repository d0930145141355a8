"""Almost stochastic order against the published formula and against deepsig, and the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from vadv.report.significance import almost_stochastic_order, bootstrap_interval, compare, violation_ratio

pytestmark = pytest.mark.filterwarnings("error")


def ratio_by_integration(a: np.ndarray, b: np.ndarray, pieces: int = 200_000) -> float:
    """ε̂ with the quantile functions looked up on a fine grid."""
    p = (np.arange(pieces) + 0.5) / pieces
    x, y = np.sort(a)[(p * len(a)).astype(int)], np.sort(b)[(p * len(b)).astype(int)]
    return float(((y - x).clip(0) ** 2).sum() / ((y - x) ** 2).sum())


@pytest.mark.parametrize(("n", "m"), [(5, 5), (5, 3), (7, 12)])
def test_violation_ratio_is_the_integral(n: int, m: int) -> None:
    rng = np.random.default_rng(n * m)
    for shift in (-1, 0, 0.5):
        a, b = rng.normal(shift, 1, n), rng.normal(0, 1, m)
        assert float(violation_ratio(a, b)) == pytest.approx(ratio_by_integration(a, b), abs=1e-4)
        assert float(violation_ratio(a, b) + violation_ratio(b, a)) == pytest.approx(1)


def test_many_at_once_equal_one_by_one() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 5)), rng.normal(size=(6, 4))
    assert violation_ratio(a, b) == pytest.approx([float(violation_ratio(x, y)) for x, y in zip(a, b, strict=True)])


def test_value_by_hand() -> None:
    # Quantiles of A: 1, 4; of B: 2, 3. B lies above on the lower half by 1, A on the upper half by 1.
    assert float(violation_ratio(np.array([4.0, 1]), np.array([2.0, 3]))) == 0.5
    # Two scores a side: the bootstraps are known exactly, 16 equally likely pairs.
    a, b = np.array([3.0, 5.0]), np.array([0.0, 4.0])
    draws = [np.array(pair) for pair in ([0, 0], [0, 1], [1, 0], [1, 1])]
    ratios = np.array([float(violation_ratio(a[i], b[j])) for i in draws for j in draws])
    estimate = float(violation_ratio(a, b))
    sigma = np.sqrt(((ratios - ratios.mean()) ** 2).mean())
    expected = np.clip(estimate - sigma * norm.ppf(0.05), 0, 1)
    assert almost_stochastic_order(a, b, resamples=200_000) == pytest.approx(expected, abs=5e-3)


def test_dominance_is_0_and_its_reverse_1() -> None:
    a, b = np.array([5.0, 6, 7, 8, 9]), np.array([0.0, 1, 2, 3, 4])
    assert almost_stochastic_order(a, b) == 0
    assert almost_stochastic_order(b, a) == 1
    assert almost_stochastic_order([1.0, 1], [1.0, 1]) == 0.5


def test_a_lower_mae_is_the_better_one() -> None:
    ours, theirs = [0.50, 0.51, 0.52, 0.50, 0.51], [0.60, 0.61, 0.59, 0.62, 0.60]
    found = compare(ours, theirs, lower_is_better=True)
    assert found.epsilon == 0
    assert found.difference == pytest.approx(-0.096)
    assert found.low is not None and found.high is not None and found.low < -0.096 < found.high < 0
    assert compare(ours, theirs, lower_is_better=False).epsilon == 1


def test_a_result_is_a_function_of_its_arguments() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=5), rng.normal(size=5)
    assert almost_stochastic_order(a, b) == almost_stochastic_order(a, b)
    assert bootstrap_interval(a, b) == bootstrap_interval(a, b)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.normal(1, 1, 40), rng.normal(0, 1, 40), resamples=1000)
        covered += low <= 1 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_one_seed_has_no_significance() -> None:
    found = compare([0.5], [0.6, 0.7], lower_is_better=True)
    assert (found.epsilon, found.low, found.high) == (None, None, None)
    assert found.difference == pytest.approx(-0.15)
    with pytest.raises(ValueError, match="at least two scores a side"):
        almost_stochastic_order([0.5], [0.6, 0.7])
    with pytest.raises(ValueError, match="finite scores for B"):
        compare([0.5, 0.6], [np.nan, 1], lower_is_better=True)
    with pytest.raises(ValueError, match="confidence between 0 and 1, found 95"):
        almost_stochastic_order([0.5, 0.6], [0.5, 0.6], confidence=95)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("n", "m", "shift"), [(5, 5, 0.6), (5, 5, 1.0), (5, 3, 0.3), (7, 12, 0.6), (20, 20, 0.6)])
def test_equals_deepsig_within_monte_carlo_error(n: int, m: int, shift: float) -> None:
    """deepsig is GPL and no dependency; to compare: pip install --no-deps --target DIR deepsig pandas dill pytz."""
    deepsig = pytest.importorskip("deepsig", reason="deepsig, optional, is not installed", exc_type=ImportError)
    rng = np.random.default_rng([n, m])
    a, b = rng.normal(shift, 1, n), rng.normal(0, 1, m)
    theirs = float(deepsig.aso(a, b, confidence_level=0.95, num_bootstrap_iterations=1000, show_progress=False, seed=1))
    # Its σ̂ comes from 1,000 bootstraps, which alone moves ε_min by 0.04 between distant seeds (neighbouring ones share
    # all but one bootstrap), and its grid of 0.005 leaves out the last step.
    assert almost_stochastic_order(a, b) == pytest.approx(theirs, abs=0.04)
