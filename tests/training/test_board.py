"""What TensorBoard is given: sections, settings that tell runs apart, texts as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vadv.config import Config, Objective
from vadv.training.board import hyperparameters, results, tag, worst_texts
from vadv.training.logging import RunLog


def test_numbers_stand_in_sections() -> None:
    assert [tag("train", name) for name in ("loss", "text_mse", "lr", "data_wait", "bad_samples")] == [
        "loss/loss",
        "loss/text_mse",
        "optimizer/lr",
        "speed/data_wait",
        "faults/bad_samples",
    ]
    assert tag("valid", "text/mae") == "valid text/mae"


def test_runs_are_compared_by_what_changes_numbers() -> None:
    found = hyperparameters(Config(seed=3, objective=Objective(variant="crd")))
    assert (found["seed"], found["objective.variant"], found["teacher"]) == (3, "crd", True)
    assert not any(key.startswith(("data.", "log.", "retrieval.", "train.keep")) for key in found)
    assert hyperparameters(Config(teacher=None))["teacher"] is False


def test_results_are_the_students() -> None:
    metrics = {"text": {"mae": 0.5, "n": 7, "acc2_nonzero": float("nan")}, "video": {"mae": 0.9}}
    assert results(metrics) == {"test text/mae": 0.5}


def test_the_worst_texts_come_first_and_are_no_markup() -> None:
    table = {
        "index": np.array([4.0, 5, 6]),
        "label": np.array([0.0, 1, 2]),
        "text_logit": np.array([0.1, 3, 2.5]),
    }
    lines = worst_texts(table, lambda index: f"clip {index} <script>|</script>\n*x*", most=2)
    assert len(lines) == 4
    assert lines[2].startswith("| 1.00 | 3.00 | clip 5 &#60;script&#62;&#124;")
    assert "\n" not in lines[2] and "<" not in lines[2] and "&#42;x&#42;" in lines[2]
    assert worst_texts({"index": np.zeros(1), "label": np.zeros(1)}, str) == []


def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, rank=0, samples=False, step=0)
    log.scalars(1, 0, "train", {"loss": 2.0, "text_mse": 1.0, "lr": 1e-5})
    log.scalars(1, 0, "valid", {"text": {"mae": 0.5, "n": 9}})
    log.scalars(1, 0, "best_test", {"text": {"mae": 0.4}})
    log.histograms(1, "valid", {"index": np.zeros(9), "label": np.arange(9.0), "text_logit": np.arange(9.0)})
    log.hyperparameters(hyperparameters(Config()), {"test text/mae": 0.4})
    log.text(1, "test/largest errors", ["| a |", "|---|", "| b |"])
    log.text(1, "test/none", [])
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == {"loss/loss", "loss/text_mse", "optimizer/lr", "valid text/mae", "test text/mae"}
    assert set(tags["histograms"]) == {"valid_logits/label", "valid_logits/text_logit"}
    assert [name for name in tags["tensors"] if "errors" in name or "none" in name] == [
        "test/largest errors/text_summary"
    ]
