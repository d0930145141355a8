"""Exported folders run without our code, with the numbers of the run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_students import CORPUS, MAX_TOKENS, run

from shards import onnx_graph
from vadv.student import export as module
from vadv.student.engines import TorchEngine, choose_engine
from vadv.student.export import export
from vadv.student.folder import open_student
from vadv.student.predictor import Predictor


@pytest.fixture
def made_run(student: Path, tmp_path: Path) -> Path:
    """A finished run around a student, as training leaves it."""
    folder = tmp_path / "run"
    shutil.copytree(student, folder / "student")
    facts = {
        "max_tokens": MAX_TOKENS, "base": "tiny", "label_range": [-2.5, 3.0], "commit": "abc123",
        "uncommitted_changes": True,
    }  # fmt: skip
    (folder / "student" / "videoadviser.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text("seed: 7\n")
    opened = open_student(folder)
    logits = Predictor(opened, TorchEngine(opened)).predict(CORPUS)
    metrics = {"mae": 0.5, "acc7": 0.25, "acc2": 1.0, "f1": 1.0, "corr": 0.75, "n": 5}
    result = {
        "dataset": "made", "seed": 7, "variant": "step", "clips": {"train": 10, "test": 5}, "epochs": 2, "steps": 9,
        "best": {"epoch": 1, "step": 4, "mae": 0.5}, "parameters": {"student": 1234},
        "splits": {"test": {"text": metrics, "video": metrics}}, "config": {},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    environment = {"packages": {"torch": "2.14.1", "pip": "1"}}
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "predictions").mkdir()
    with (folder / "predictions" / "test.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "dataset", "text", "label", "text_logit"])
        table.writerows([str(i), "made", t, -1 + i, f"{x:.9g}"] for i, (t, x) in enumerate(zip(CORPUS, logits)))
    return folder


def test_onnx_runs_in_plain_onnxruntime(made_run: Path, tmp_path: Path, mixed: list[str]) -> None:
    import onnx
    import onnxruntime
    from tokenizers import Tokenizer

    report = export(made_run, tmp_path / "out", "onnx", int8=True)
    assert report.checked["model.onnx"]["largest"] < 1e-5
    model = onnx.load(tmp_path / "out" / "model.onnx")
    assert [opset.version for opset in model.opset_import if not opset.domain] == [17]
    assert all(not node.domain for node in model.graph.node), "standard operators only"
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    opened = open_student(made_run)
    reference = Predictor(opened, TorchEngine(opened)).predict(mixed)
    exact = {}
    for name in ("model.onnx", "model.int8.onnx"):
        session = onnxruntime.InferenceSession(tmp_path / "out" / name, providers=["CPUExecutionProvider"])
        found = []
        for start in range(0, len(mixed), 40):
            encoded = tokenizer.encode_batch(mixed[start : start + 40])
            feed = {
                "input_ids": np.array([e.ids for e in encoded]),
                "attention_mask": np.array([e.attention_mask for e in encoded]),
            }
            found.append(session.run(["logits"], feed)[0][:, 0])
        exact[name] = np.concatenate(found)
    np.testing.assert_allclose(exact["model.onnx"], reference, atol=1e-5)
    assert np.corrcoef(exact["model.int8.onnx"], reference)[0, 1] > 0.98


def test_hf_loads_in_plain_transformers(made_run: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    report = export(made_run, tmp_path / "out", "hf")
    assert report.checked["model.safetensors"]["largest"] < 1e-5
    found = pipeline("text-classification", str(tmp_path / "out"), function_to_apply="none", device="cpu")(
        CORPUS, truncation=True, max_length=MAX_TOKENS
    )
    opened = open_student(made_run)
    expected = Predictor(opened, TorchEngine(opened)).predict(CORPUS)
    np.testing.assert_allclose([row["score"] for row in found], expected, atol=1e-5)


@pytest.mark.parametrize("format", ["hf", "onnx"])
def test_the_card_states_where_it_comes_from(made_run: Path, tmp_path: Path, format: str) -> None:
    export(made_run, tmp_path / "out", format, int8=format == "onnx")  # type: ignore[arg-type]
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("made (10 train, 5 test)", "[-2.5, 3]", "| test | 0.5000 | 0.2500 |", "seed 7", "abc123 with uncommitted",
                 "torch 2.14.1", "## Limits", "1,234", "epoch 1 of 2"):  # fmt: skip
        assert part in card, part
    assert ("opset 17" in card and "8-bit" in card and "| int8 |" in card) == (format == "onnx")
    facts = json.loads((tmp_path / "out" / "videoadviser.json").read_text())
    assert facts["commit"] == "abc123" and facts["label_range"] == [-2.5, 3.0] and facts["max_tokens"] == MAX_TOKENS
    assert open_student(tmp_path / "out").max_tokens == MAX_TOKENS


@pytest.mark.parametrize("format", ["hf", "onnx"])
def test_a_stock_folder_is_exported_with_what_is_known(bert: Path, tmp_path: Path, format: str) -> None:
    export(bert, tmp_path / "out", format)  # type: ignore[arg-type]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "commit unknown" in card and "Unknown: no evaluation lay beside the student" in card


def test_predict_runs_from_the_exported_folder(bert: Path, tmp_path: Path) -> None:
    assert (
        run("export.py", "--run", str(bert), "--out", str(tmp_path / "out"), "--format", "onnx", "--int8").returncode
        == 0
    )
    whole = run("predict.py", "--student", str(bert), *CORPUS).stdout
    assert run("predict.py", "--student", str(tmp_path / "out"), *CORPUS).stdout == whole
    assert run("predict.py", "--student", str(tmp_path / "out"), "--engine", "int8", *CORPUS).returncode == 0
    found = run("predict.py", "--student", str(tmp_path / "out"), "--engine", "torch", *CORPUS)
    assert found.returncode == 2 and b"this folder runs with --engine onnx" in found.stderr


def test_numbers_that_differ_from_torch_are_not_exported(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOLERANCE", 0.0)
    with pytest.raises(ValueError, match="expected PyTorch's numbers"):
        export(bert, tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_only_an_earlier_export_is_replaced(bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="found a folder with other content"):
        export(bert, out, "hf")
    assert (out / "thesis.tex").read_text() == "mine"
    (out / "thesis.tex").unlink()
    for _ in range(2):
        export(bert, out, "hf")
    with pytest.raises(ValueError, match="expected a folder outside of the run"):
        export(bert, bert, "hf")


def test_mistakes_on_the_command_line(bert: Path, tmp_path: Path) -> None:
    found = run("export.py", "--run", str(bert), "--out", str(tmp_path / "x"), "--int8")
    assert (found.returncode, found.stderr.count(b"\n")) == (2, 1) and b"--int8: expected --format onnx" in found.stderr


def test_weights_beyond_protobufs_bound_go_to_a_second_file(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "EXTERNAL", 1000)
    export(bert, tmp_path / "out", "onnx")
    assert (tmp_path / "out" / "model.onnx.data").stat().st_size > 100_000
    assert (tmp_path / "out" / "model.onnx").stat().st_size < 20_000
    assert run("predict.py", "--student", str(tmp_path / "out"), "good").returncode == 0
    opened = open_student(bert)  # and the graph that is never written for good
    found = Predictor(opened, choose_engine(opened, "onnx")).predict(CORPUS)
    np.testing.assert_allclose(found, Predictor(opened, TorchEngine(opened)).predict(CORPUS), atol=1e-5)
