"""Whatever computes, the numbers are those of transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_students import MAX_TOKENS

from shards.onnx_graph import Graph
from vadv.student.buckets import CALL, TOKENS, buckets
from vadv.student.encoder_graph import UnsupportedError, encoder_graph
from vadv.student.engines import OnnxEngine, TorchEngine, choose_engine
from vadv.student.folder import open_student
from vadv.student.int8 import linear_int8
from vadv.student.predictor import Predictor


@pytest.fixture
def stock(student: Path, mixed: list[str]) -> np.ndarray:
    """What a pipeline of plain transformers says."""
    from transformers import pipeline

    found = pipeline("text-classification", str(student), function_to_apply="none", device="cpu")(
        mixed, truncation=True, max_length=MAX_TOKENS
    )
    return np.array([row["score"] for row in found])


@pytest.mark.parametrize("engine", ["torch", "onnx", "auto"])
def test_equals_the_pipeline(student: Path, mixed: list[str], stock: np.ndarray, engine: str) -> None:
    opened = open_student(student)
    found = Predictor(opened, choose_engine(opened, engine), threads=2).predict(mixed)
    assert np.std(stock) > 0.05, "the texts must differ for the comparison to mean something"
    np.testing.assert_allclose(found, stock, atol=1e-5)


def test_int8_is_close_and_does_not_depend_on_company(student: Path, mixed: list[str]) -> None:
    opened = open_student(student)
    exact = Predictor(opened, choose_engine(opened, "onnx")).predict(mixed)
    small = Predictor(opened, choose_engine(opened, "int8"))
    together = small.predict(mixed)
    assert np.abs(together - exact).mean() < 0.2 * np.std(exact)
    assert np.corrcoef(together, exact)[0, 1] > 0.98
    # Equal lengths give equal batches of another make-up; padding differs only in what is masked.
    alone = np.concatenate([small.predict([text]) for text in mixed[:20]])
    np.testing.assert_allclose(alone, together[:20], atol=0.02 * np.std(exact))


@pytest.mark.parametrize("sign", [1, -1])
def test_int8_products_are_whole_on_any_processor(sign: int) -> None:
    """The largest inputs and weights there are: processors without VNNI add pairs of products in 16 bits."""
    import onnxruntime

    g = Graph()
    weight = np.full((64, 8), 0.5, np.float32)
    product = linear_int8(g, g.add("Cast", "ids", to=1), "layer", weight, np.zeros(8, np.float32))
    g.add("Identity", product, name="logits")
    model = g.model("layer", {"ids": (np.int64, ["rows", 64])}, ("logits", ["rows", 8]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"ids": np.full((2, 64), sign, np.int64)})[0]
    np.testing.assert_allclose(found, sign * 32.0, rtol=1e-6)


def test_padding_changes_nothing(student: Path) -> None:
    opened = open_student(student)
    ids = np.random.default_rng(0).integers(5, 100, (1, 9))
    padded = np.concatenate([ids, np.full((1, 8), opened.pad)], axis=1)
    mask = (np.arange(17) < 9).astype(np.int64)[None]
    for engine in (TorchEngine(opened), choose_engine(opened, "onnx")):
        np.testing.assert_allclose(engine(padded, mask), engine(ids, None), atol=1e-5)


def test_a_literal_padding_token_in_the_text_is_counted_as_transformers_does(roberta: Path) -> None:
    opened = open_student(roberta)
    ids = np.array([[0, 40, 1, 50, 1, 1, 60, 2]])
    onnx, torch = choose_engine(opened, "onnx"), TorchEngine(opened)
    np.testing.assert_allclose(onnx(ids, None), torch(ids, None), atol=1e-5)


def test_every_row_is_in_one_batch_of_bounded_size() -> None:
    draw = np.random.default_rng(1)
    for n in (0, 1, 2, 50, 3000):
        lengths = draw.integers(2, 100, n)
        batches = list(buckets(lengths))
        assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(n))
        for rows in batches:
            padding = int((lengths[rows].max() - lengths[rows]).sum())
            assert len(rows) == 1 or (lengths[rows].max() * len(rows) <= TOKENS and padding <= CALL)


def test_an_architecture_without_a_graph_runs_in_torch(bert: Path, tmp_path: Path, mixed: list[str]) -> None:
    folder = tmp_path / "relu"
    shutil.copytree(bert, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    opened = open_student(folder)
    with pytest.raises(UnsupportedError, match="hidden_act relu"):
        encoder_graph(opened)
    assert choose_engine(opened, "auto").name == "torch"
    with pytest.raises(ValueError, match="--engine onnx: not for this student"):
        choose_engine(opened, "onnx")


def test_half_precision_weights_are_read(bert: Path, tmp_path: Path, mixed: list[str]) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path / "half"
    shutil.copytree(bert, folder)
    AutoModelForSequenceClassification.from_pretrained(bert).half().save_pretrained(folder)
    opened = open_student(folder)
    onnx, torch = (Predictor(opened, choose_engine(opened, name)).predict(mixed) for name in ("onnx", "torch"))
    np.testing.assert_allclose(onnx, torch, atol=1e-5)


def test_a_file_that_is_no_graph_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ValueError, match="expected an ONNX file"):
        OnnxEngine(path, "onnx")
