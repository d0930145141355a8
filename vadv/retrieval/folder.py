"""The folder of a retrieval run's students: config.json, model.safetensors, and ONNX files once they are exported.

config.json: {"format": 1, "kind": "eics-style", "hidden", "vector", "classes": [names], "widths": {"audio", "visual"},
              "features": {"audio", "visual"}}    what made the vectors that they were trained on (shards/features.py)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KIND = "eics-style"
FORMAT = 1
MODALITIES = ("audio", "visual")
CHUNK = 8192
"""Clips that go through a student at a time."""


@dataclass(frozen=True, kw_only=True)
class Students:
    """Both students, ready to use.

    Attributes:
        folder: where they lie.
        classes: names by number.
        widths: of the features, by modality.
        features: what made them, by modality.
        modules: `RetrievalVector` by modality.
    """

    folder: Path
    classes: list[str]
    widths: dict[str, int]
    features: dict[str, str]
    modules: dict[str, Any]

    def require_same(self, features: Mapping[str, str], where: str) -> None:
        """Refuse vectors of another making, whose width may well be the same.

        Raises:
            ValueError: with `where` in front, and what made them.
        """
        for name, made in features.items():
            if made != self.features[name]:
                raise ValueError(
                    f"{where}: expected {name} vectors as the students were trained on ({self.features[name]}), found "
                    f"others ({made}); pack the clips with the same features"
                )

    def project(self, modality: str, features: np.ndarray) -> np.ndarray:
        """(n, D) features → (n, C) float32 vectors to be compared.

        Raises:
            ValueError: the features are of another width, or not finite.
        """
        import torch

        features = np.asarray(features, np.float32)
        if features.ndim != 2 or features.shape[1] != self.widths[modality]:
            raise ValueError(
                f"{modality} features: expected (n, {self.widths[modality]}) as the student was trained on, found "
                f"{features.shape}; pack the clips with the same features"
            )
        if not np.isfinite(features).all():
            raise ValueError(f"{modality} features: expected finite numbers, found NaN or infinity")
        with torch.inference_mode():
            parts = [self.modules[modality](torch.from_numpy(part)) for part in _chunks(features)]
        return np.concatenate([np.asarray(part) for part in parts])


def save_students(
    folder: Path,
    students: Mapping[str, Any],
    *,
    hidden: int,
    vector: str,
    classes: list[str],
    features: Mapping[str, str],
) -> None:
    """Write both students.

    Args:
        folder: an existing, empty folder.
        students: `ModalityStudent` by modality, with whole weights.
        hidden, vector: settings of `retrieval`.
        classes: names by number.
        features: what made their vectors, by modality.
    """
    from safetensors.torch import save_file

    weights = {
        f"{name}.{key}": value.detach().to("cpu").float().contiguous()
        for name, student in students.items()
        for key, value in student.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS)
    config = {
        "format": FORMAT,
        "kind": KIND,
        "hidden": hidden,
        "vector": vector,
        "classes": classes,
        "widths": {name: student.width for name, student in students.items()},
        "features": dict(features),
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def is_students(folder: Path) -> bool:
    """Whether a folder holds students of the retrieval task (and not, say, a text student)."""
    try:
        return bool(json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("kind") == KIND)
    except (OSError, ValueError, AttributeError):
        return False


def open_students(path: str | Path) -> Students:
    """Load both students, in evaluation mode on the CPU.

    Args:
        path: their folder, or the run folder that holds it as `student/`.

    Raises:
        FileNotFoundError: no students there.
        ValueError: another kind of model, or damaged files.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from vadv.models.eics import RetrievalVector, build_students

    folder = Path(path)
    if not (folder / CONFIG).is_file() and (folder / "student" / CONFIG).is_file():
        folder = folder / "student"
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"{folder}: expected the students of a retrieval run with {CONFIG}, found none; they are in RUN/student "
            "once the first validation is done"
        )
    config = _read_config(folder / CONFIG)
    classes, widths = config["classes"], config["widths"]
    students = build_students(widths, hidden=config["hidden"], classes=len(classes), seed=0)
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"{folder}: expected the students' weights, found no {WEIGHTS}")
    try:
        weights = load_file(folder / WEIGHTS)
        for name, student in students.items():
            student.load_state_dict(
                {key.removeprefix(f"{name}."): w for key, w in weights.items() if key.startswith(f"{name}.")}
            )
    except (SafetensorError, RuntimeError) as error:
        line = str(error).split("\n")[0]
        raise ValueError(f"{folder / WEIGHTS}: expected the weights of {CONFIG}, found others ({line})") from error
    modules = {name: RetrievalVector(student, config["vector"]).eval() for name, student in students.items()}
    return Students(folder=folder, classes=classes, widths=widths, features=config["features"], modules=modules)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found something else ({error})") from error
    if not isinstance(config, dict) or config.get("kind") != KIND:
        raise ValueError(f"{path}: expected students of the retrieval task (kind {KIND}), found another model")
    if config.get("format") != FORMAT:
        raise ValueError(f"{path}: format: expected {FORMAT}, found {config.get('format')}")
    widths, classes, features = config.get("widths"), config.get("classes"), config.get("features")
    sound = (
        isinstance(widths, dict)
        and set(widths) == set(MODALITIES)
        and all(_whole(width, 1 << 20) for width in widths.values())
        and isinstance(features, dict)
        and set(features) == set(MODALITIES)
        and all(isinstance(made, str) for made in features.values())
        and isinstance(classes, list)
        and 0 < len(classes) <= 1 << 16
        and all(isinstance(name, str) for name in classes)
        and _whole(config.get("hidden"), 1 << 16)
        and config.get("vector") in ("logits", "probabilities")
    )
    if not sound:
        raise ValueError(
            f"{path}: expected hidden, vector, classes, and widths and features of audio and visual, found others"
        )
    return config


def _whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _chunks(features: np.ndarray) -> list[np.ndarray]:
    return [features[start : start + CHUNK] for start in range(0, max(1, len(features)), CHUNK)]
