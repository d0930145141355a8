"""Both students as ONNX files: audio.onnx and visual.onnx, features (n, D) in, vectors (n, C) to be compared out."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from vadv.retrieval.folder import MODALITIES, Students

OPSET = 18
TOLERANCE = 1e-4
"""Largest difference to PyTorch, relative to the largest number, that an export may show."""


def export_onnx(students: Students, out: Path) -> list[Path]:
    """Write and check the files.

    Args:
        students: what is exported.
        out: folder, made where needed.

    Returns:
        The files.

    Raises:
        ValueError: the ONNX packages are missing, or onnxruntime computes something else than PyTorch.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"expected onnx, onnxscript and onnxruntime for an export; pip install them ({error})"
        ) from error
    import torch

    out.mkdir(parents=True, exist_ok=True)
    files = []
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the exporter reports each of its passes
    try:
        for name in MODALITIES:
            path = out / f"{name}.onnx"
            torch.onnx.export(
                students.modules[name],
                (torch.zeros(2, students.widths[name]),),
                path,
                input_names=["features"],
                output_names=["vectors"],
                dynamic_shapes={"features": {0: torch.export.Dim("clips", min=1)}},
                opset_version=OPSET,
                external_data=False,
                dynamo=True,
                verbose=False,
            )
            files.append(path)
    finally:
        logging.disable(level)
    for name, path in zip(MODALITIES, files):
        features = np.random.default_rng(0).normal(size=(5, students.widths[name])).astype(np.float32)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = session.run(None, {"features": features})[0]
        expected = students.project(name, features)
        if np.abs(found - expected).max() > TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise ValueError(
                f"{path}: expected what PyTorch computes, found {np.abs(found - expected).max():.1e} beside it"
            )
    return files
