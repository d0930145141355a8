"""Linear layers and tables in 8-bit integers.

One scale per output column for the weight, found once; one scale per token for the input, found as it comes. The usual
dynamic quantisation has one scale for the whole input: a single large value then costs every other token its accuracy,
and a text's number depends on the texts that share its batch. Per token it does not.
"""

from __future__ import annotations

import numpy as np

from shards.onnx_graph import Graph

LARGEST_WEIGHT = 64
"""Of a layer. Processors without VNNI add pairs of products (8 bits unsigned times 8 bits signed) in 16 bits and cut what
does not fit: 2 · 255 · 64 does, 2 · 255 · 127 would not, and numbers would depend on the processor."""


def linear_int8(g: Graph, hidden: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
    """`hidden` (..., inputs) times `weight` (inputs, outputs) plus `bias`, as float32 again."""
    column = np.maximum(np.abs(weight).max(axis=0), 1e-12) / LARGEST_WEIGHT
    whole = np.rint(weight / column).astype(np.int8)
    largest = g.add("ReduceMax", g.add("Abs", hidden), axes=[-1], keepdims=1)
    scale = g.add("Mul", g.add("Max", largest, g.number(1e-12, np.float32)), g.number(1 / 127, np.float32))
    # Unsigned around 128: the form for which processors have instructions. 128 ± 127 needs no clipping.
    moved = g.add("Add", g.add("Div", hidden, scale), g.number(128.5, np.float32))
    rounded = g.add("Cast", moved, to=2)
    product = g.add("MatMulInteger", rounded, g.constant(name + ".int8", whole), g.number(128, np.uint8))
    real = g.add("Mul", g.add("Cast", product, to=1), g.constant(name + ".scale", column.astype(np.float32)))
    return g.add("Add", g.add("Mul", real, scale), g.constant(name + ".bias", bias))


def table_int8(g: Graph, ids: str, name: str, table: np.ndarray) -> str:
    """Rows `ids` of `table` (rows, width), stored with one scale per row, as float32."""
    row = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 127
    whole = g.constant(name + ".int8", np.rint(table / row).astype(np.int8))
    scale = g.constant(name + ".scale", row.astype(np.float32))
    return g.add("Mul", g.add("Cast", g.add("Gather", whole, ids), to=1), g.add("Gather", scale, ids))
