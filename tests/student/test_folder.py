"""Folders that are no students are told apart, in one line each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_students import MAX_TOKENS

from vadv.student.engines import TorchEngine
from vadv.student.folder import open_student


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "copy"))


def _edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_limits_come_from_training_then_from_the_model(copy: Path) -> None:
    assert open_student(copy).max_tokens == MAX_TOKENS
    assert open_student(copy).label_range == (-3.0, 3.0)
    assert open_student(copy, 12).max_tokens == 12
    (copy / "videoadviser.json").unlink()
    assert open_student(copy).max_tokens == 64
    _edit(copy / "tokenizer_config.json", model_max_length=40)
    assert open_student(copy).max_tokens == 40


def test_roberta_loses_two_positions(roberta: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(roberta, tmp_path / "copy"))
    (folder / "videoadviser.json").unlink()
    assert open_student(folder).max_tokens == 64


def test_a_run_folder_stands_for_its_student(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "run" / "student")
    assert open_student(tmp_path / "run").path == tmp_path / "run" / "student"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: shutil.rmtree(f), "expected a student folder, found nothing"),
        (lambda f: (f / "config.json").unlink(), "found no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: expected JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object, found list"),
        (lambda f: _edit(f / "config.json", id2label={"0": "a", "1": "b"}), "found 2 labels"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "found neither; other formats can hold code",
        ),
        (
            lambda f: _edit(f / "videoadviser.json", max_tokens=100000),
            "max_tokens: expected a number from 3 to the model's 64",
        ),
        (lambda f: _edit(f / "videoadviser.json", label_range="wide"), "label_range: expected two numbers"),
    ],
)
def test_faults_are_named(copy: Path, damage: object, told: str) -> None:
    damage(copy)  # type: ignore[operator]
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        open_student(copy)


def test_damaged_and_missing_weights_are_told(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    save_file({k: v for k, v in weights.items() if not k.startswith("classifier")}, copy / "model.safetensors")
    with pytest.raises(ValueError, match="found 2 missing"):
        TorchEngine(open_student(copy))
    (copy / "model.safetensors").write_bytes(b"\x08" + b"\0" * 20)
    with pytest.raises(ValueError, match="expected weights that transformers can load"):
        TorchEngine(open_student(copy))
