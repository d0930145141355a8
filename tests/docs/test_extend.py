"""The examples of docs/extend.md, put in place as they are printed, do what the page says."""

from __future__ import annotations

import importlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import logged

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
EXAMPLES: dict[str, str] = dict(re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL))


def test_the_page_has_an_example_of_each_kind_of_at_most_60_lines() -> None:
    packages = {str(Path(name).parent) for name in EXAMPLES}
    assert packages == {"shards/sources", "vadv/objectives/distillers", "vadv/models/students", "vadv/tasks"}
    assert all(len(code.splitlines()) <= 60 for code in EXAMPLES.values())
    assert not any((ROOT / name).exists() for name in EXAMPLES)
    assert PAGE.count("```python") == len(EXAMPLES)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples as files, in the folders that the page names, below a folder outside of the repository."""
    root = tmp_path_factory.mktemp("extended")
    for name, code in EXAMPLES.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(code, encoding="utf-8")
    return root


def join(root: Path) -> None:
    """Let the packages have the examples' folders as theirs; `run.py` below does it in a process of its own."""
    for name in EXAMPLES:
        folder = Path(name).parent
        importlib.import_module(".".join(folder.parts)).__path__.append(str(root / folder))


@pytest.fixture
def extended(written: Path) -> Iterator[None]:
    """This process with the examples in place."""
    join(written)
    yield
    for name in EXAMPLES:
        folder = Path(name).parent
        importlib.import_module(".".join(folder.parts)).__path__.remove(str(written / folder))
        sys.modules.pop(".".join(Path(name).with_suffix("").parts), None)


def test_the_source_is_a_command_that_packs(
    extended: None, sample_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from shards.manifest import read_manifest

    videos = sorted((sample_corpus / "Raw").glob("*/*.mp4"))[:2]
    for split, video in zip(("train", "test"), videos, strict=True):
        (tmp_path / "raw" / split).mkdir(parents=True)
        shutil.copy(video, tmp_path / "raw" / split / "-1.5_a.mp4")
        (tmp_path / "raw" / split / "-1.5_a.txt").write_text("so so")
    monkeypatch.syspath_prepend(str(ROOT / "launch"))
    monkeypatch.setattr(sys, "argv", ["pack.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "launch/pack.py"), run_name="__main__")
    assert "clips with a text file beside each, named label_name.mp4" in " ".join(
        capsys.readouterr().out.lower().split()
    )
    words = ["pairs", "--root", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--workers", "1"]
    monkeypatch.setattr(sys, "argv", ["pack.py", *words])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "launch/pack.py"), run_name="__main__")
    assert left.value.code == 0
    splits = read_manifest(tmp_path / "out").splits
    assert {name: (split.samples, split.labels["mean"]) for name, split in splits.items() if split.samples} == {
        "train": (1, -1.5),
        "test": (1, -1.5),
    }


def test_names_are_those_of_the_files(extended: None) -> None:
    from vadv.config_file import load, parser

    config = load(None, {"task": "face-alone", "objective.variant": "rkd"})
    assert (config.task, config.objective.variant) == ("face-alone", "rkd")
    with pytest.raises(
        ValueError, match=r"task: expected one of face-alone, .*, found face_alone; did you mean face-alone"
    ):
        load(None, {"task": "face_alone"})
    text = " ".join(parser().format_help().split())
    assert "One of face-alone, retrieval, sentiment." in text and "pkt, rkd, step" in text


def test_the_student_is_its_stock_classifier(extended: None, tmp_path: Path) -> None:
    """Alone and sharing rows, from memory and from its folder, in transformers and in our own commands."""
    from transformers import AutoModelForSequenceClassification

    from vadv import config
    from vadv.models import build_student
    from vadv.models.batch import Batch
    from vadv.models.text import lay
    from vadv.student.engines import choose_engine
    from vadv.student.folder import open_student
    from vadv.student.predictor import Predictor

    student, tokenizer = build_student(config.Student(model="tiny-electra", weights="random"), seed=3)
    with torch.no_grad():  # biases start at 0, and an export could lose them unseen
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    texts = ["I love it", "so, so bad", "ünïcode ☂", "well " * 40]
    ids = tokenizer(texts)["input_ids"]
    number = torch.arange(len(texts))
    batch = Batch(weight=torch.ones(4), label=torch.zeros(4), index=number, noise=number, text=lay(ids))
    student(batch).logit.sum().backward()
    assert all(p.grad is not None for p in student.parameters())

    student.eval().to_stock().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert type(stock).__name__ == "ElectraForSequenceClassification"
    with torch.inference_mode():
        expected = torch.cat([stock(input_ids=torch.tensor([row])).logits[:, 0] for row in ids])
        assert expected.std() > 1e-3
        torch.testing.assert_close(student(batch).logit[:, 0], expected, atol=1e-6, rtol=0)
        again, _ = build_student(config.Student(model=str(tmp_path)), seed=9)
        torch.testing.assert_close(again.eval()(batch).representation, student(batch).representation, atol=1e-6, rtol=0)
    opened = open_student(tmp_path)
    engine = choose_engine(opened)
    assert engine.name == "torch"
    np.testing.assert_allclose(Predictor(opened, engine).predict(texts), expected.numpy(), atol=1e-5)


TRAIN = """
import importlib, json, sys
from pathlib import Path

root, points = json.loads(sys.argv[1])
for folder in Path(root).glob("**/*.py"):
    parts = folder.parent.relative_to(root).parts
    importlib.import_module(".".join(parts)).__path__.append(str(folder.parent))
from vadv.config_file import build
from vadv.training import train

for run, settings in points.items():
    code = train(build(settings), run)
    assert code == 0, (run, code)
"""


@pytest.fixture(scope="module")
def runs(written: Path, sample_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps each of the step-distilled tiny model, the same with the example's distiller, and the example's task."""
    root = tmp_path_factory.mktemp("runs")
    common = {
        "data": {"shards": str(sample_shards), "workers": 1, "frames": 2, "frame_size": 64},
        "student": {"model": "tiny-roberta", "weights": "random"},
        "train": {"epochs": 1, "max_steps": 2, "batch_size": 4, "lr": 1e-3, "warmup_steps": 0},
        "log": {"every": 1},
    }
    teacher = {"clip": "configs/clip/tiny.json", "weights": "random"}
    points = {
        "step": {**common, "teacher": teacher},
        "rkd": {**common, "teacher": teacher, "objective": {"variant": "rkd"}},
        "face-alone": {**common, "teacher": None, "task": "face-alone"},
    }
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, json.dumps([str(written), {str(root / name): p for name, p in points.items()}])],
        env={**os.environ, "DS_ACCELERATOR": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def test_the_distiller_trains(runs: Path) -> None:
    usual, own = logged(runs / "step"), logged(runs / "rkd")
    assert list(own) == [1, 2]
    assert all(line["rkd"] > 0 and "video_to_text" not in line for line in own.values())
    # The same model and clips; then other weights.
    assert own[1]["prompt_to_video"] == pytest.approx(usual[1]["prompt_to_video"], rel=1e-6)
    assert own[1]["loss"] != usual[1]["loss"] and own[2]["text_mse"] != usual[2]["text_mse"]
    assert json.loads((runs / "rkd/result.json").read_text())["variant"] == "rkd"


def test_the_distiller_is_its_formula(extended: None) -> None:
    """Distances over their mean, Huber, mean over all pairs; a clip of weight 0 is not there."""
    from vadv.models.batch import Batch
    from vadv.objectives.transfer import alone

    rkd = importlib.import_module("vadv.objectives.distillers.rkd").RKD(alone)
    torch.manual_seed(0)
    t, s = torch.randn(4, 6), torch.randn(4, 5)
    t[3], s[3] = 0, 0
    number = torch.arange(4)
    batch = Batch(weight=torch.tensor([1.0, 1, 1, 0]), label=torch.zeros(4), index=number, noise=number)
    found = (rkd(t, s, batch) * batch.weight).sum() / 3

    def distances(x: np.ndarray) -> np.ndarray:
        between = np.linalg.norm(x[:, None] - x[None], axis=2)
        return between / between[between > 0].mean()

    apart = np.abs(distances(t[:3].numpy()) - distances(s[:3].numpy()))
    expected = np.where(apart < 1, apart**2 / 2, apart - 0.5).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_the_task_is_known_before_it_runs(extended: None, sample_shards: Path, tmp_path: Path) -> None:
    """Its plan, the doctor's findings and debug mode are those of its own model, which reads no text."""
    from vadv.config_file import build, dump
    from vadv.doctor import machine
    from vadv.doctor.weights import weights
    from vadv.training.debug import small
    from vadv.training.plan import plan

    config = build({"task": "face-alone", "teacher": None, "data": {"shards": str(sample_shards)}})
    text = plan(config, world_size=2)
    rows = {line.split()[0] for line in text.splitlines() if line.strip()}
    assert {"student.hidden", "student.out", "all"} <= rows and "student.encoder" not in rows
    assert "none: all start random" in text and "Memory of each of 2 GPU(s)" in text
    (room,) = machine.room(config, tmp_path)
    (memory,) = machine._memory(config, 1, 1, free=2**34, host=2**34, margin=0)
    (loaded,) = weights(config, dump(config), fetch=False)
    assert room.text.startswith("0.0 GiB") and memory.text.startswith("a rank needs") and "none" in loaded.text
    made, lines = small(config)
    assert made.student == config.student and not any("student" in line for line in lines)


def test_the_tasks_score_is_shown_where_its_file_is_not(runs: Path, tmp_path: Path) -> None:
    """In the status of a sweep while it runs and afterwards, and in a report."""
    from slurm.folder import Folder, write_json
    from slurm.status import table
    from slurm.summary import rows
    from vadv.report.groups import group
    from vadv.report.runs import find
    from vadv.report.scenes import scenes

    result = json.loads((runs / "face-alone/result.json").read_text())
    folder = Folder(tmp_path)
    points = [{"name": name, "group": "a", "seed": 0, "config": result["config"]} for name in ("done", "running")]
    write_json(folder.plan, {"points": points})
    for name in ("done", "running"):
        shutil.copytree(runs / "face-alone", folder.run(name))
    (folder.run("running") / "result.json").unlink()
    header, *lines = table(rows(folder), {}).splitlines()
    assert "best valid MAE" in header
    assert [f"{result['best']['mae']:.4f}" in line for line in lines[:2]] == [True, True]

    (run,) = find([runs / "face-alone"])
    assert run.finished and run.main_score() == result["splits"]["test"]["face"]["mae"]
    assert scenes(group([run]))[0].title.endswith("face-alone")


def test_the_task_trains_and_leaves_a_result(runs: Path) -> None:
    from safetensors.numpy import load_file

    run = runs / "face-alone"
    result = json.loads((run / "result.json").read_text())
    assert (result["state"], result["task"], result["steps"], result["parameters"]["student"]) == (
        "finished",
        "face-alone",
        2,
        8 * 32 + 32 + 32 + 1,
    )
    face = result["splits"]["test"]["face"]
    assert face["n"] == result["clips"]["test"] and 0 < face["mae"] < 6
    assert {"loss", "face_mse"} <= set(logged(run)[2])
    assert load_file(run / "student/model.safetensors")["hidden.weight"].shape == (32, 8)
    assert (run / "predictions/test.csv").read_text().splitlines()[0] == "id,dataset,text,label,face_logit"
