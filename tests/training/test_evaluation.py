"""Evaluation counts every clip once, on any number of ranks."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from training_runs import Ranks, changed

from shards.dataset import ClipSet
from vadv.training.reevaluate import evaluate_folder


@pytest.fixture(scope="module")
def runs(ranks: Ranks, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A short run, finished on one rank and, from a copy of its last checkpoint, on two."""
    folder = tmp_path_factory.mktemp("evaluated")
    settings = changed(tiny, train={"max_steps": 4, "epochs": 1})
    assert ranks.train(settings, folder / "1", world=1) == 0
    shutil.copytree(folder / "1", folder / "2")
    (folder / "2" / "result.json").unlink()
    shutil.rmtree(folder / "2" / "predictions")
    assert ranks.train(settings, folder / "2", world=2) == 0
    return {world: folder / str(world) for world in (1, 2)}


def rows(run: Path, split: str) -> list[dict[str, str]]:
    with (run / "predictions" / f"{split}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("split", ["valid", "test"])
def test_every_clip_once_and_the_same_metrics_on_any_number_of_ranks(
    runs: dict[int, Path], sample_shards: Path, split: str
) -> None:
    clips = ClipSet([str(sample_shards)], split)
    expected = [clips.meta(*clips.locate(i))["id"] for i in range(len(clips))]
    results = {}
    for world, run in runs.items():
        assert [row["id"] for row in rows(run, split)] == expected
        results[world] = json.loads((run / "result.json").read_text())["splits"][split]
        assert results[world]["text"]["n"] == len(clips)
    for output in ("text", "video", "prompt"):
        assert results[1][output] == pytest.approx(results[2][output], abs=1e-6, nan_ok=True)


def test_the_folders_repeat_the_metrics(runs: dict[int, Path]) -> None:
    recorded = json.loads((runs[1] / "result.json").read_text())["splits"]["test"]
    assert evaluate_folder(runs[1], None, "test")["video"] == pytest.approx(recorded["video"], abs=1e-6)
    alone = evaluate_folder(runs[1] / "student", None, "test")
    assert alone["text"] == pytest.approx(recorded["text"], abs=1e-4)


def test_the_student_folder_is_an_ordinary_one(runs: dict[int, Path]) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = runs[1] / "student"
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert not list(folder.glob("*.bin")) and not list(folder.glob("*.pt"))
    facts = json.loads((folder / "videoadviser.json").read_text())
    low, high = facts["label_range"]
    assert -3 <= low < high <= 3 and facts["max_tokens"] == 100
    assert facts["commit"] == json.loads((runs[1] / "environment.json").read_text())["commit"]
    for row in rows(runs[1], "test"):
        tokens = tokenizer(row["text"], truncation=True, max_length=100, return_tensors="pt")
        with torch.no_grad():
            logit = model(**tokens).logits.item()
        assert logit == pytest.approx(float(row["text_logit"]), abs=1e-5)
