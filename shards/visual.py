"""Frames of a clip → one feature vector: frozen CLIP's image embeddings, or a user's ONNX model.

Legend: T frames, E width of an embedding.
Eight frames, the centres of equal segments, are embedded one by one. The feature is their mean and their standard
deviation over time, 2 E numbers: what is seen, and how much it changes, which the sound follows.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shards.audio import onnx_session
from shards.checksum import sha256_of
from shards.frames import show

if TYPE_CHECKING:
    from torch import nn

FRAMES = 8
"""Frames per clip that are embedded (Table 3's number)."""
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's, which CLIP's weights want."""


class ClipVisual:
    """Frozen CLIP's image encoder."""

    def __init__(self, model: str, weights: str) -> None:
        """Load it.

        Args:
            model: an open_clip name, or the path of an open_clip model JSON.
            weights: an open_clip tag, the path of a weights file, or `random` (always the same).

        Raises:
            ValueError: no such model, or its weights are not there.
        """
        self._model, self._size = _load(model, weights)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB → (2 E,) float32: mean and standard deviation over the frames."""
        import torch

        pixels = np.empty((len(frames), 3, self._size, self._size), np.uint8)
        show(frames, pixels)
        with torch.inference_mode():
            x = torch.from_numpy(pixels).float() / 255
            x = (x - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]
            embeddings = self._model.encode_image(x).float()
        return mean_and_deviation(embeddings.numpy())


class OnnxVisual:
    """A user's image model in ONNX format: (1, 3, S, S) float32, prepared as for CLIP, to (1, E)."""

    def __init__(self, path: Path) -> None:
        """Raises: ValueError if the model has another kind of input."""
        self._session = onnx_session(path)
        self._input = self._session.get_inputs()[0]
        shape = self._input.shape
        if len(shape) != 4 or shape[1] != 3 or not isinstance(shape[2], int) or shape[2] != shape[3]:
            raise ValueError(f"{path}: expected an input (N, 3, S, S) with a fixed S, found {shape}")
        self._size = shape[2]

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB → (2 E,) float32."""
        pixels = np.empty((len(frames), 3, self._size, self._size), np.uint8)
        show(frames, pixels)
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
        x = (pixels.astype(np.float32) / 255 - mean) / std
        rows = [self._session.run(None, {self._input.name: frame[None]})[0].reshape(1, -1) for frame in x]
        return mean_and_deviation(np.concatenate(rows))


def mean_and_deviation(embeddings: np.ndarray) -> np.ndarray:
    """(T, E) → (2 E,) float32."""
    return np.concatenate([embeddings.mean(0), embeddings.std(0)]).astype(np.float32)


def _load(model: str, weights: str) -> tuple[nn.Module, int]:
    """The model in evaluation mode, and its image size in pixels."""
    import open_clip
    import torch

    name = model
    if model.endswith(".json"):
        path = Path(model)
        if not path.is_file():
            raise ValueError(f"--clip: expected an open_clip model JSON, found no file {model}")
        open_clip.add_model_config(path)
        name = path.stem
    config = open_clip.get_model_config(name)
    if config is None:
        raise ValueError(f"--clip: expected an open_clip model name or the path of a model JSON, found {model}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        level = logging.root.manager.disable
        if weights == "random":
            logging.disable(logging.WARNING)  # open_clip warns of what was asked for
        try:
            built = open_clip.create_model(name, pretrained=None if weights == "random" else weights)
        except Exception as error:  # open_clip, the hub's client and torch raise a dozen kinds
            cause = str(error).split("\n")[0][:200]
            raise ValueError(
                f"--clip-weights: cannot load {weights} for {name} ({cause}); give the path of a weights file, an "
                "open_clip tag, or random; or bring features with --visual-features or --visual-onnx"
            ) from error
        finally:
            logging.disable(level)
    size = config["vision_cfg"].get("image_size", 224)
    return built.eval().requires_grad_(False), size if isinstance(size, int) else size[0]


def describe(model: str, weights: str) -> str:
    """A text that differs whenever the features would, for the manifest.

    Raises:
        ValueError: no such model JSON.
    """
    path, file = Path(model), Path(weights)
    if path.suffix == ".json" and not path.is_file():
        raise ValueError(f"--clip: expected an open_clip model JSON, found no file {model}")
    shape = json.dumps(json.loads(path.read_text()), sort_keys=True) if path.suffix == ".json" else model
    if file.is_file():  # by its content: the same file lies elsewhere on another machine
        weights = sha256_of(file)
    return f"{shape} {weights}"
