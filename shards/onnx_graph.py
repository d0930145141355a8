"""A small writer of ONNX graphs: values are names, constants are numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

OPSET = 17
"""The oldest opset with LayerNormalization: onnxruntime 1.12, OpenCV 4.10 and every later one read it."""
IR_VERSION = 8
"""The file format of that opset's time."""
EXTERNAL = 1_900_000_000
"""Bytes of weights above which they go to a second file: protobuf ends at 2 GiB."""


Shape = Sequence[int | str]


class Graph:
    """Nodes and constants, in the order they were added."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._shared: dict[tuple[str, bytes], str] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        """A named weight. Copied at once, so that of a large model's weights only one at a time is held twice."""
        from onnx import numpy_helper

        assert name not in self._constants, name
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def number(self, value: Any, dtype: Any) -> str:
        """A small constant; equal ones are stored once."""
        array = np.array(value, dtype=dtype)
        key = (f"{array.dtype}{array.shape}", array.tobytes())
        if key not in self._shared:
            self._shared[key] = self.constant(f"constant_{len(self._shared)}", array)
        return self._shared[key]

    def add(self, op: str, *inputs: str, name: str | None = None, outputs: int = 1, **attributes: Any) -> Any:
        """A node.

        Returns:
            the name of its output, or a list of names for more than one.
        """
        from onnx import helper

        base = name or f"{op.lower()}_{len(self._nodes)}"
        names = [base] if outputs == 1 else [f"{base}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=base, **attributes))
        return names[0] if outputs == 1 else names

    def model(
        self,
        name: str,
        inputs: Mapping[str, tuple[type[np.generic], Shape]],
        output: tuple[str, Shape],
        facts: Mapping[str, str] | None = None,
    ) -> Any:
        """The finished onnx.ModelProto.

        Args:
            name: of the graph.
            inputs: name to type and shape; a string in a shape is a free dimension.
            output: name and shape of the float32 output.
            facts: metadata kept in the file.
        """
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self._nodes,
            name,
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
                for name, (dtype, shape) in inputs.items()
            ],
            [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="videoadviser"
        )
        helper.set_model_props(model, dict(facts or {}))
        return model


def too_large(model: Any) -> bool:
    """Whether the model needs a second file for its weights."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) > EXTERNAL


def save(model: Any, path: Path) -> None:
    """Write a model, the weights of a large one beside it, and check the file."""
    import onnx

    # Changes the model where weights go to a second file: it is not used afterwards.
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=too_large(model),
        location=path.name + ".data",
        size_threshold=1024,
    )
    onnx.checker.check_model(str(path), full_check=True)
