"""`launch/export.py`: a folder to give away, checked against PyTorch before it appears under its name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shards.onnx_graph import OPSET, save
from vadv.student.engines import Engine, OnnxEngine, TorchEngine
from vadv.student.folder import FACTS, ONNX, ONNX_INT8, Student, open_student
from vadv.student.model_card import model_card
from vadv.student.predictor import Predictor
from vadv.student.provenance import Provenance, gather
from vadv.student.tokens import Tokenizer

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
)
TOLERANCE = 1e-4
"""Largest difference from PyTorch, on logits of the size of labels. Rounding makes some 1e-6."""
TEXTS = (
    "",
    "good",
    "I did not expect to like it, and I did not.",
    "Très bien, 本当に良い映画でした 😀 — Größe & <b>tags</b>",
    "the plot drags, the jokes are old and the ending makes no sense at all",
    "well " * 30,
    "so much longer than any student reads " * 60,
)
"""Checked in any case: empty, short, other scripts, and longer than the limit."""


@dataclass
class Report:
    """What was exported and how it compares."""

    out: Path
    checked: dict[str, dict[str, float]]
    """Per file: `texts` compared and the `largest` and `mean` difference from PyTorch."""
    facts: dict[str, Any]


def export(run: str | Path, out: str | Path, format: Literal["hf", "onnx"], *, int8: bool = False) -> Report:
    """Write the student of a run as a folder of its own.

    Args:
        run: run folder or student folder.
        out: new or empty folder, or an earlier export, which is replaced.
        format: `hf`: for transformers (safetensors). `onnx`: for onnxruntime, the tokenizer beside it.
        int8: with `onnx`, also write the 8-bit file and state what it costs.

    Raises:
        ValueError: no student there, `out` is something else, or the numbers differ from PyTorch's.
    """
    student, out = open_student(run), Path(out)
    if int8 and format != "onnx":
        raise ValueError(f"--int8: expected --format onnx, found {format}")
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / FACTS).is_file())):
        raise ValueError(
            f"--out {out}: expected a new or empty folder or an earlier export, found "
            + ("a folder with other content" if out.is_dir() else "a file")
        )
    if out.exists() and (out.resolve() == student.path.resolve() or out.resolve() in student.path.resolve().parents):
        raise ValueError(f"--out: expected a folder outside of the run, found {out}")
    origin = gather(student)
    scratch = out.with_name(f".{out.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        write = _onnx if format == "onnx" else _hf
        report = write(student, origin, scratch, int8)
        report.out = out
        (scratch / "README.md").write_text(model_card(report.facts, format), encoding="utf-8")
        (scratch / FACTS).write_text(json.dumps(report.facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return report


def _hf(student: Student, origin: Provenance, folder: Path, int8: bool) -> Report:
    """The stock folder as it stands, loaded once by transformers to see that it does."""
    for path in [*student.path.glob("model*.safetensors*"), *_small_files(student)]:
        shutil.copyfile(path, folder / path.name)
    copy = open_student(folder, student.max_tokens)
    try:
        predictor = Predictor(copy, TorchEngine(copy))
    except ValueError as error:  # names the copy
        raise ValueError(str(error).replace(str(folder), str(student.path))) from None
    checked = {}
    if origin.logits:
        found = predictor.predict(origin.texts)
        checked["model.safetensors"] = _compare("model.safetensors", found, np.array(origin.logits))
    elif not np.isfinite(predictor.predict(TEXTS)).all():
        raise ValueError(f"{student.path}: expected finite predictions, found others: the weights are damaged")
    return Report(folder, checked, {**origin.facts, "format": "hf", "checked": checked})


def _onnx(student: Student, origin: Provenance, folder: Path, int8: bool) -> Report:
    from vadv.student.encoder_graph import encoder_graph

    for path in _small_files(student):
        shutil.copyfile(path, folder / path.name)
    texts = [*TEXTS, *origin.texts]
    torch = TorchEngine(student)
    reference = Predictor(student, torch).predict(texts)
    checked, losses = {}, {}
    for name, small in ((ONNX, False), (ONNX_INT8, True))[: 2 if int8 else 1]:
        save(encoder_graph(student, int8=small), folder / name)
        engine = OnnxEngine(folder / name, name)
        found = Predictor(student, engine).predict(texts)
        checked[name] = _compare(name, found, reference, None if small else TOLERANCE)
        if not small:
            _check_shapes(engine, torch, student)
        elif origin.labels:
            losses = _losses(origin, reference[len(TEXTS) :], found[len(TEXTS) :])
    facts = {**origin.facts, "format": "onnx", "opset": OPSET, "checked": checked}
    return Report(folder, checked, {**facts, "int8": losses} if losses else facts)


def _small_files(student: Student) -> list[Path]:
    return [p for name in ("config.json", *TOKENIZER_FILES) if (p := student.path / name).is_file()]


def _compare(
    name: str, found: np.ndarray, reference: np.ndarray, tolerance: float | None = TOLERANCE
) -> dict[str, float]:
    """Differences; an error when the largest is more than `tolerance`."""
    difference = np.abs(found - reference)
    largest = float(difference.max())
    if not np.isfinite(largest) or (tolerance is not None and largest > tolerance):
        raise ValueError(f"{name}: expected PyTorch's numbers to {tolerance}, found a difference of {largest:.3g}")
    return {"texts": len(found), "largest": largest, "mean": float(difference.mean())}


def _check_shapes(engine: Engine, torch: Engine, student: Student) -> None:
    """Batch and length are free: any of them gives what PyTorch gives, with padding and without."""
    draw = np.random.default_rng(0)
    known = np.unique(np.concatenate([tokens.ids for tokens in Tokenizer(student)(TEXTS)]))
    for batch, length in ((1, 3), (1, student.max_tokens), (5, 17), (2, student.max_tokens)):
        ids = draw.choice(known, (batch, length))
        mask = (np.arange(length) < draw.integers(2, length + 1, (batch, 1))).astype(np.int64)
        ids = np.where(mask, ids, student.pad)
        _compare(f"{ONNX} at shape ({batch}, {length})", engine(ids, mask), torch(ids, mask))


def _losses(origin: Provenance, exact: np.ndarray, small: np.ndarray) -> dict[str, Any]:
    """Test metrics of both number formats."""
    from vadv.metrics import sentiment

    label = np.array(origin.labels)
    score: Callable[[np.ndarray], dict[str, float]] = lambda x: {  # noqa: E731
        key: value if key == "n" else round(float(value), 6) for key, value in sentiment(x.astype(float), label).items()
    }
    return {"test": {"float32": score(exact), "int8": score(small)}}
