"""Figures: sizes of a paper, same bytes for same data, readable in grey, drawn from odd data too."""

from __future__ import annotations

import warnings
from pathlib import Path

import made_runs
import numpy as np
import pytest
from PIL import Image

from vadv.report import tables
from vadv.report.figures.curves import series, smoothed, together
from vadv.report.figures.draw import draw
from vadv.report.figures.errors import confusion, error_by_label_and_length, predicted_true
from vadv.report.figures.labels import EDGES, label_distribution
from vadv.report.figures.logits import bins, logit_histograms
from vadv.report.figures.style import COLUMN, DPI, LOOKS, NEGATIVE, PAGE, POSITIVE, save, style
from vadv.report.groups import group
from vadv.report.predictions import retrieval_vectors
from vadv.report.runs import find
from vadv.report.scenes import scenes


def test_all_are_drawn_in_both_formats_and_widths_of_a_paper(tmp_path: Path) -> None:
    made_runs.write_sweep(tmp_path / "sweep", seeds=2, dataset="mosi")
    groups = group(find([tmp_path / "sweep"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = draw(tmp_path / "figures", scenes(groups), tables.build(groups), {})
    assert [figure.name.split("-")[0] for figure in made] == [
        "label",
        "parameters",
        "curves",
        "logits",
        "predicted",
        "confusion",
        "errors",
    ]
    for figure in made:
        with Image.open(figure.png) as image:
            assert image.width == round((PAGE if figure.wide else COLUMN) * DPI)
        text = figure.svg.read_text()
        assert "<text" not in text  # outlines, so that fonts do not matter
        assert figure.caption


def test_same_data_same_bytes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=50).clip(-3, 3)
    for name in ("a", "b"):
        with style():
            save(predicted_true(values, values + 0.1), tmp_path / name, "x")
    for ending in ("png", "svg"):
        assert (tmp_path / "a" / f"x.{ending}").read_bytes() == (tmp_path / "b" / f"x.{ending}").read_bytes()


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_series_differ_by_more_than_colour() -> None:
    for number, a in enumerate(LOOKS):
        for b in LOOKS[:number]:
            assert a.line != b.line and a.marker != b.marker and a.hatch != b.hatch
    assert NEGATIVE.hatch != POSITIVE.hatch
    # Lines stand out from white paper.
    assert all((1 + 0.05) / (luminance(look.colour) + 0.05) >= 2.5 for look in LOOKS)


@pytest.mark.parametrize("labels", [[0.0], [-3.0, 3.0], [1.0] * 40, list(np.linspace(-3, 3, 500))])
def test_odd_labels_are_drawn(labels: list[float]) -> None:
    array = np.array(labels)
    texts = ["", *["a few words"] * (len(labels) - 1)]
    table = {"label": array, "text_logit": array * 0, "text": texts}
    with style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for drawn in (
            label_distribution({"x$y": labels, "z": labels}),
            predicted_true(array * 0, array),
            confusion(array * 9, array),
            error_by_label_and_length({"one": table, "two $": table}),
            logit_histograms({"with": {**table, "video_logit": array}, "without": table}),
        ):
            drawn.draw_without_rendering()


def test_no_bin_of_labels_holds_both_classes() -> None:
    counts, _ = np.histogram([-1e-9, 0.0], EDGES)
    assert counts[EDGES[:-1] < 0].sum() == 1 and counts[EDGES[:-1] >= 0].sum() == 1


@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (-7.2, 2.05), (-0.4, 0.2), (0.3, 0.3)])
def test_bins_hold_all_values(low: float, high: float) -> None:
    edges = bins(low, high)
    assert edges[0] <= low and high <= edges[-1] and (np.diff(edges) > 0).all()


def test_a_curve_is_what_was_logged() -> None:
    history = [
        {"step": 2, "split": "train", "loss": 4.0},
        {"step": 1, "split": "train", "loss": 8.0},
        {"step": 2, "split": "train", "event": "loss spike"},
        {"step": 2, "split": "valid", "text": {"mae": 0.5}},
        {"step": 4, "split": "valid", "text": {"mae": float("nan")}},
        {"step": 4, "split": "valid", "text": 3},
    ]
    steps, values = series(history, "train", ("loss",))
    assert (steps.tolist(), values.tolist()) == ([1, 2], [8.0, 4.0])
    steps, values = series(history, "valid", ("text", "mae"))
    assert (steps.tolist(), values.tolist()) == ([2], [0.5])


def test_seeds_meet_at_the_steps_that_all_have() -> None:
    first = [{"step": step, "split": "valid", "text": {"mae": step}} for step in (1, 2, 3)]
    second = [{"step": step, "split": "valid", "text": {"mae": -step}} for step in (2, 3, 4)]
    steps, values = together([first, [], second], lambda history: series(history, "valid", ("text", "mae")))
    assert steps.tolist() == [2, 3] and values.tolist() == [[2, 3], [-2, -3]]


def test_a_running_mean_keeps_lines_straight() -> None:
    values = np.arange(100.0)
    assert smoothed(np.arange(100), values)[1][10:-10] == pytest.approx(values[10:-10])
    assert smoothed(np.arange(5), np.ones(5))[1].tolist() == [1] * 5


def test_damaged_predictions_are_left_out(tmp_path: Path) -> None:
    folder = made_runs.write_run(tmp_path / "run")
    path = folder / "predictions" / "test.csv"
    path.write_text(path.read_text().replace("0.", "zero.", 1))
    groups = group(find([tmp_path / "run"]))
    made = draw(tmp_path / "figures", scenes(groups), [], {})
    assert [figure.name.split("-")[0] for figure in made] == ["curves"]


def test_retrieval_has_its_own_figures(tmp_path: Path) -> None:
    for seed in (1, 2):
        made_runs.write_retrieval(tmp_path / "runs" / f"step-{seed}", seed=seed)
        made_runs.write_retrieval(tmp_path / "runs" / f"alone-{seed}", seed=seed, settings={"teacher": None})
    groups = group(find([tmp_path / "runs"]))
    made = draw(tmp_path / "figures", scenes(groups), [], {})
    assert [figure.name for figure in made] == ["scope-vegas-eics-style"]
    (tmp_path / "runs" / "step-1" / "predictions" / "test.csv").write_text("id,label\nx,1\n")
    assert retrieval_vectors(find([tmp_path / "runs" / "step-1"])[0]) is None
