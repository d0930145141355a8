"""What computes the model's forward pass on a batch of token ids."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from shards.onnx_graph import save, too_large
from vadv.student.encoder_graph import UnsupportedError, encoder_graph
from vadv.student.folder import ONNX, ONNX_INT8, Student


class Engine(Protocol):
    """B texts of L tokens each to B predictions. Calls may overlap; each runs in the thread that makes it."""

    name: str

    def __call__(self, ids: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Predict.

        Args:
            ids: (B, L) int64 token ids, padded on the right.
            mask: (B, L) int64, 1 for a token and 0 for padding; None when nothing is padded.

        Returns:
            (B,) float32 predictions.
        """
        ...


class TorchEngine:
    """The safetensors weights in PyTorch, through transformers."""

    name = "torch"

    def __init__(self, student: Student) -> None:
        import torch

        self._torch: Any = torch
        self._model = load_torch(student)

    def __call__(self, ids: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        torch = self._torch
        # The setting belongs to the calling thread: several of them run side by side.
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        with torch.inference_mode():
            attention = None if mask is None else torch.from_numpy(mask)
            logits = self._model(input_ids=torch.from_numpy(ids), attention_mask=attention).logits
        return logits[:, 0].numpy()


class OnnxEngine:
    """An ONNX graph in onnxruntime."""

    def __init__(self, model: Path | Any, name: str) -> None:
        """Prepare a session.

        Args:
            model: path of a file, or an onnx.ModelProto.
            name: for reports.

        Raises:
            ValueError: onnxruntime cannot read it, or it is not a student's.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        place = str(model) if isinstance(model, Path) else name
        try:
            with tempfile.TemporaryDirectory() as scratch:
                if not isinstance(model, Path) and too_large(model):
                    save(model, Path(scratch, ONNX))
                    model = Path(scratch, ONNX)
                source = str(model) if isinstance(model, Path) else model.SerializeToString()
                del model  # a large one is held twice for no longer than needed
                self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception class for each of its codes
            raise ValueError(f"{place}: expected an ONNX file: {error}") from error
        names = [value.name for value in self._session.get_inputs()]
        if sorted(names) != ["attention_mask", "input_ids"]:
            raise ValueError(f"{name}: expected the inputs input_ids and attention_mask, found {', '.join(names)}")
        self.name = name

    def __call__(self, ids: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        mask = np.ones_like(ids) if mask is None else mask
        (logits,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return logits[:, 0]


def load_torch(student: Student) -> Any:
    """The student as a transformers model in evaluation mode, float32, on the CPU.

    Raises:
        ValueError: the weights are missing or do not fit config.json.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not student.has_torch:
        raise ValueError(f"{student.path}: expected model.safetensors, found none; this folder runs with --engine onnx")
    try:
        model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            student.path,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors and transformers raise many kinds for a damaged or foreign file
        cause = str(error).split("\n")[0].split(". ")[0]
        if "ignore_mismatched_sizes" in str(error):
            cause = "weights of other sizes than config.json says"
        raise ValueError(f"{student.path}: expected weights that transformers can load, found: {cause}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"{student.path}: expected every weight of {type(model).__name__}, found {len(missing)} missing "
            f"({', '.join(missing[:3])}): not a trained student"
        )
    return model.eval()


ENGINES = ("auto", "torch", "onnx", "int8")


def choose_engine(student: Student, name: str = "auto") -> Engine:
    """The engine of that name.

    Args:
        student: the folder.
        name: torch; onnx (onnxruntime, float32: equal numbers to 1e-5); int8 (onnxruntime, 8-bit integers: other
            numbers); auto for onnx where it can be had, else torch.

    Raises:
        ValueError: an unknown name, or an engine that this student or this environment does not have.
    """
    if name not in ENGINES:
        raise ValueError(f"--engine: expected {', '.join(ENGINES)}, found {name}")
    if name == "torch":
        return TorchEngine(student)
    try:
        return _onnx(student, int8=name == "int8")
    except (ImportError, UnsupportedError) as error:
        if name != "auto":
            need = ": pip install 'videoadviser[onnx]'" if isinstance(error, ImportError) else ""
            raise ValueError(f"--engine {name}: not for this student or environment: {error}{need}") from error
    return TorchEngine(student)


def _onnx(student: Student, int8: bool) -> OnnxEngine:
    """From the exported file if there is one, else from the safetensors weights."""
    name = "int8" if int8 else "onnx"
    file = student.path / (ONNX_INT8 if int8 else ONNX)
    if file.is_file():
        return OnnxEngine(file, name)
    graph = encoder_graph(student, int8=int8)
    try:
        return OnnxEngine(graph, name)
    except ValueError as error:
        raise ValueError(f"{student.path}: expected weights that fit config.json, found others") from error
