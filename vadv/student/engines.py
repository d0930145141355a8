"""What computes the model's forward pass on a batch of token ids."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from vadv.student.folder import Student


class Engine(Protocol):
    """B texts of L tokens each to B predictions."""

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

    def __init__(self, student: Student, threads: int | None = None) -> None:
        import torch

        model = load_torch(student)
        if threads:
            torch.set_num_threads(threads)
        self._torch: Any = torch
        self._model = model

    def __call__(self, ids: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        torch = self._torch
        with torch.inference_mode():
            attention = None if mask is None else torch.from_numpy(mask)
            logits = self._model(input_ids=torch.from_numpy(ids), attention_mask=attention).logits
        return logits[:, 0].numpy()


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
        raise ValueError(f"{student.path}: expected weights that transformers can load, found: {error}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"{student.path}: expected every weight of {type(model).__name__}, found {len(missing)} missing "
            f"({', '.join(missing[:3])}): not a trained student"
        )
    return model.eval()


def choose_engine(student: Student, name: str = "auto", threads: int | None = None) -> Engine:
    """The engine of that name.

    Args:
        student: the folder.
        name: torch, or auto for the fastest with equal numbers that the folder holds.
        threads: threads of one forward pass; default: one per core.

    Raises:
        ValueError: an unknown name.
    """
    if name in ("auto", "torch"):
        return TorchEngine(student, threads)
    raise ValueError(f"--engine: expected auto or torch, found {name}")
