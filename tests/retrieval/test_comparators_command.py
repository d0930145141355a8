"""launch/comparators.py on a user's own shards: the table it prints, and Table 4 of a report made of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.dataset import ClipSet
from shards.vectors import read_vectors
from vadv.comparators import COMPARATORS, Pairs
from vadv.comparators.results import verdict


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


def finished(folder: Path, teacher: bool, score: float) -> Path:
    """The result of a retrieval run."""
    scores = {"map_a2v": score, "map_v2a": score, "map_mean": score, "n": 40}
    config = {"teacher": {} if teacher else None, "retrieval": {"sides": "both"}}
    content = {"config": config, "variant": "step", "splits": {"test": {"students": scores}}}
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(content))
    return folder


def test_methods_stand_beside_runs_and_fill_table_4(feature_shards: Path, tmp_path: Path) -> None:
    alone, taught = finished(tmp_path / "alone", False, 0.91), finished(tmp_path / "taught", True, 0.875)
    out = tmp_path / "comparators"
    words = ["--methods", "random", "c-cca", "--seeds", "1", "2", "--beside", alone, taught, "--out", out]
    done = command("launch/comparators.py", "--shards", feature_shards, *words)
    assert done.returncode == 0, done.stderr
    rows = {line.split("  ")[0]: line.split()[-1] for line in done.stdout.splitlines()}
    assert rows["EICS-style students, not distilled"] == "0.910" and rows["with teacher (step)"] == "0.875"
    assert "Distillation did not help here: the mean mAP is 0.035 lower with it" in done.stdout

    def pairs(split: str) -> Pairs:
        found = read_vectors(ClipSet(str(feature_shards), split))
        return Pairs(audio=found.audio, visual=found.visual, labels=found.labels)

    fitted = COMPARATORS["c-cca"].fit(pairs("train"), pairs("valid"), 1).score(pairs("test"))
    assert rows["C-CCA, Rasiwasia et al. 2014"] == f"{fitted['map_mean']:.3f}"
    assert float(rows["Random, random vectors"]) < 0.25 < fitted["map_mean"]
    # A method without anything random is fitted once.
    assert sorted(path.parent.name for path in out.rglob("result.json")) == ["c-cca-1", "random-1", "random-2"]
    result = json.loads((out / "c-cca-1" / "result.json").read_text())
    assert result["splits"]["test"]["students"]["map_mean"] == pytest.approx(fitted["map_mean"])

    done = command("launch/report.py", out, "--out", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    table = next((tmp_path / "report" / "tables").glob("table-04*.md")).read_text()
    assert "C-CCA" in table and f"{fitted['map_mean']:.3f}" in table
    runs = (tmp_path / "report" / "runs.csv").read_text().splitlines()
    place = runs[0].split(",").index("recall10_v2a")
    assert 0 < float(next(line for line in runs if "c-cca-1" in line).split(",")[place]) <= 1


@pytest.mark.parametrize(
    ("alone", "taught", "expected"),
    [
        ([0.5], [0.6], "raised the mean mAP by 0.100 (one seed: no proof)"),
        ([0.5, 0.7], [0.6, 0.7, 0.8], "raised the mean mAP by 0.100 (3 and 2 runs)"),
        ([0.6], [0.6], "did not help here: the mean mAP is 0.000 lower with it (one seed: no proof)"),
        ([0.5], [], ""),
    ],
)
def test_what_distillation_did_is_said_as_it_is(alone: list[float], taught: list[float], expected: str) -> None:
    def result(score: float, teacher: bool) -> dict[str, Any]:
        config = {"teacher": {} if teacher else None, "retrieval": {"sides": "both"}}
        return {"config": config, "variant": "step", "splits": {"test": {"students": {"map_mean": score}}}}

    found = verdict([*(result(s, False) for s in alone), *(result(s, True) for s in taught)])
    assert expected in found and bool(expected) == bool(found)


def test_every_method_names_what_it_is_and_its_source() -> None:
    titles = {key: (one.title, one.source) for key, one in COMPARATORS.items()}
    assert titles == {
        "random": ("Random", "random vectors"),
        "cca": ("CCA", "Hotelling 1936"),
        "c-cca": ("C-CCA", "Rasiwasia et al. 2014"),
        "dcca": ("DCCA-style", "after Andrew et al. 2013"),
        "c-dcca": ("C-DCCA-style", "after Yu et al. 2019"),
        "dscmr": ("DSCMR-style", "after Zhen et al. 2019"),
        "tnn-c-cca": ("TNN-C-CCA-style", "after Zeng et al. 2020"),
    }


def test_mistakes_end_in_one_line(plain_shards: Path, tmp_path: Path) -> None:
    for words, message in (
        (["--shards", tmp_path / "nowhere"], "no manifest.json"),
        (["--shards", plain_shards], "expected shards of the retrieval task, found sentiment"),
        (["--shards", plain_shards, "--beside", tmp_path], "expected a finished retrieval run"),
    ):
        done = command("launch/comparators.py", *words)
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_random_is_chance_whatever_the_features() -> None:
    pairs = Pairs(audio=np.ones((500, 3)), visual=np.ones((500, 4)), labels=np.arange(500) % 10)
    assert COMPARATORS["random"].fit(pairs, pairs, 3).score(pairs)["map_mean"] == pytest.approx(0.112, abs=0.006)
