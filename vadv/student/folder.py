"""A student folder: an ordinary Hugging Face folder with one regression output, and what we know about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
SHARDED_WEIGHTS = "model.safetensors.index.json"
FACTS = "videoadviser.json"
"""Written by training: what the model was trained on. Optional: a stock folder without it works."""
ONNX = "model.onnx"
ONNX_INT8 = "model.int8.onnx"


@dataclass(frozen=True)
class Student:
    """A student folder that was found to be usable."""

    path: Path
    pad: int
    """Token id of padding."""
    max_tokens: int
    """Texts are cut after so many tokens, special tokens included: the limit of training, or the model's own."""
    label_range: tuple[float, float] | None = None
    """Lowest and highest label of training. Predictions are not clipped to it."""
    facts: dict[str, Any] = field(default_factory=dict)
    """videoadviser.json as it stands; empty for a stock folder."""

    @property
    def has_torch(self) -> bool:
        """Whether PyTorch weights lie in the folder."""
        return (self.path / WEIGHTS).is_file() or (self.path / SHARDED_WEIGHTS).is_file()


def open_student(path: str | Path, max_tokens: int | None = None) -> Student:
    """Find the student in `path`: a student folder, an exported folder, or a run folder that holds `student/`.

    Args:
        path: the folder.
        max_tokens: cut texts after so many tokens instead of the limit of training.

    Raises:
        FileNotFoundError: no such folder, or no student in it.
        ValueError: the folder holds another kind of model, or `max_tokens` is more than the model can take.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{path}: expected a student folder, found {'a file' if folder.exists() else 'nothing'}"
        )
    if not (folder / "config.json").is_file() and (folder / "student" / "config.json").is_file():
        folder = folder / "student"
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: expected a student folder with config.json and {WEIGHTS}, found no config.json; "
            "a run folder has its student in RUN/student once the first validation is done"
        )
    config = _object(folder / "config.json")
    if config.get("kind") == "eics-style":
        raise ValueError(
            f"{folder}: expected a text student, found the audio and visual students of a retrieval run; "
            "ask them with launch/retrieve.py"
        )
    labels = config.get("num_labels", len(config.get("id2label", {0: "", 1: ""})))
    if labels != 1:
        raise ValueError(
            f"{folder / 'config.json'}: expected a regression student (num_labels 1), found {labels} labels"
        )
    weights = [name for name in (WEIGHTS, SHARDED_WEIGHTS, ONNX, ONNX_INT8) if (folder / name).is_file()]
    if not weights:
        raise FileNotFoundError(
            f"{folder}: expected {WEIGHTS} or {ONNX}, found neither; other formats can hold code and are not read"
        )
    facts = _object(folder / FACTS) if (folder / FACTS).is_file() else {}
    limit = _positions(config)
    tokens = max_tokens or facts.get("max_tokens") or min(limit, _tokenizer_limit(folder))
    if not isinstance(tokens, int) or not 3 <= tokens <= limit:
        where = "--max-tokens" if max_tokens else str(folder / FACTS) + ": max_tokens"
        raise ValueError(f"{where}: expected a number from 3 to the model's {limit}, found {tokens}")
    return Student(folder, int(config.get("pad_token_id") or 0), tokens, _range(folder, facts), facts)


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, found {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _positions(config: dict[str, Any]) -> int:
    """Longest input in tokens. RoBERTa numbers positions from padding index + 1, so it loses two."""
    positions = int(config.get("max_position_embeddings", 512))
    if "roberta" in str(config.get("model_type", "")):
        positions -= int(config.get("pad_token_id") or 0) + 1
    return positions


def _tokenizer_limit(folder: Path) -> int:
    path = folder / "tokenizer_config.json"
    # transformers writes 1e30 for "no limit".
    return int(_object(path).get("model_max_length", 10**30)) if path.is_file() else 10**30


def _range(folder: Path, facts: dict[str, Any]) -> tuple[float, float] | None:
    found = facts.get("label_range")
    if found is None:
        return None
    if not (isinstance(found, list) and len(found) == 2 and all(isinstance(x, int | float) for x in found)):
        raise ValueError(f"{folder / FACTS}: label_range: expected two numbers, found {found}")
    return float(found[0]), float(found[1])
