"""The published feature file of VEGAS, vegas_feature.h5: its six arrays, checked.

    audio_train (n, 128), audio_test (m, 128), visual_train (n, 1024), visual_test (m, 1024), lab_train, lab_test

Labels are class numbers, (n,) or (n, 1), or one-hot rows (n, C). The file names no clips and holds no video.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("train", "test")
KEYS = tuple(f"{kind}_{part}" for kind in ("audio", "visual", "lab") for part in PARTS)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the file's two parts: n clips as (n, Da) and (n, Dv) float32, and (n,) int64 classes."""

    audio: np.ndarray
    visual: np.ndarray
    labels: np.ndarray


def read_h5(path: Path, audio_width: int, visual_width: int) -> dict[str, Part]:
    """`train` and `test` of the file.

    Args:
        path: the file.
        audio_width, visual_width: expected widths of the vectors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not HDF5, a missing key, a wrong width or length, a value that is not finite, or labels that are no
            class numbers; one line that names the key.
    """
    import h5py

    if not path.is_file():
        raise FileNotFoundError(f"--h5: expected a feature file, found none at {path}")
    try:
        with h5py.File(path, "r") as file:
            for key in KEYS:
                if key not in file or not isinstance(file[key], h5py.Dataset):
                    found = ", ".join(sorted(file)) or "nothing"
                    raise ValueError(f"{path}: expected the arrays {', '.join(KEYS)}, found {found}; {key} is missing")
            arrays = {key: _array(file[key], f"{path}: {key}") for key in KEYS}
    except OSError as error:
        raise ValueError(f"{path}: expected an HDF5 file, found something else or a damaged one ({error})") from error
    parts = {}
    for part in PARTS:
        audio = _vectors(arrays[f"audio_{part}"], audio_width, f"{path}: audio_{part}", "--audio-width")
        visual = _vectors(arrays[f"visual_{part}"], visual_width, f"{path}: visual_{part}", "--visual-width")
        labels = _labels(arrays[f"lab_{part}"], f"{path}: lab_{part}")
        if not len(audio) == len(visual) == len(labels):
            raise ValueError(
                f"{path}: expected as many rows in audio_{part}, visual_{part} and lab_{part}, "
                f"found {len(audio)}, {len(visual)} and {len(labels)}"
            )
        if not len(audio):
            raise ValueError(f"{path}: audio_{part}: expected at least one row, found none")
        parts[part] = Part(audio=audio, visual=visual, labels=labels)
    return parts


def _array(item: Any, where: str) -> np.ndarray:
    if item.dtype.kind not in "fiub":
        raise ValueError(f"{where}: expected numbers, found {item.dtype}")
    return np.asarray(item[()])


def _vectors(array: np.ndarray, width: int, where: str, option: str) -> np.ndarray:
    if array.ndim == 3 and 1 in array.shape[1:]:
        array = array.reshape(len(array), -1)
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{where}: expected shape (n, {width}), found {array.shape}; {option} sets another width")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{where}: expected finite numbers, found NaN or infinity in row {bad[0]} ({len(bad)} such rows)"
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def _labels(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] > 1:
        if not ((array == 0) | (array == 1)).all() or not (array.sum(axis=1) == 1).all():
            raise ValueError(f"{where}: expected one-hot rows, found other numbers in an array of shape {array.shape}")
        return array.argmax(axis=1).astype(np.int64)
    array = array.reshape(-1)
    if not np.isfinite(array).all() or (array != np.round(array)).any() or (len(array) and array.min() < 0):
        raise ValueError(f"{where}: expected class numbers from 0 on, found others")
    return array.astype(np.int64)
