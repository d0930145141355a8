"""Small inputs of retrieval tests: feature files and clips with and without sound."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np


def feature_arrays(train: int = 80, test: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays in vegas_feature.h5's form whose class can be told from either modality."""
    rng = np.random.default_rng(seed)
    centres = {"audio": rng.normal(size=(10, 128)), "visual": rng.normal(size=(10, 1024))}
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        label = np.arange(count) % 10
        arrays[f"lab_{part}"] = label
        for kind, centre in centres.items():
            noise = rng.normal(size=(count, centre.shape[1]))
            arrays[f"{kind}_{part}"] = (centre[label] + 0.7 * noise).astype(np.float32)
    return arrays


def write_h5(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A feature file of these arrays."""
    import h5py

    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return path


def media(sound: np.ndarray | None, rate: int = 16000, layout: str = "mono") -> bytes:
    """A short MP4 with a black picture, and (channels, n) sound."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", "mp4") as container:
        video = container.add_stream("libx264", rate=5)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout=layout) if sound is not None else None
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            for start in range(0, sound.shape[1], 1024):
                block = np.ascontiguousarray(sound[:, start : start + 1024], np.float32)
                part = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                part.sample_rate, part.pts, part.time_base = rate, start, Fraction(1, rate)
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return buffer.getvalue()


def onnx_mean(path: Path, shape: list[object], axes: list[int]) -> Path:
    """A model that means its input over the patch: (P, …) → (P, 1)."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
            helper.make_node("Unsqueeze", ["m", "last"], ["y"]),
        ],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes),
            helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path
