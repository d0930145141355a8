"""Faces that OpenFace has cut out: its output folder in place of the built-in detector.

OpenFace's FeatureExtraction writes NAME.csv (one row per frame; header names have a space after each comma) and, in
NAME_aligned/, one picture per frame with a face: frame_det_00_000001.bmp, 112 x 112, numbered from 1, with gaps.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from shards.expression import FACE_SIZE
from shards.sources.record import Raw, UnsafePath, path_below

_PICTURE = re.compile(r"frame_det_(\d+)_(\d+)\.(?:bmp|png|jpg)")


class OpenFaceFolder:
    """Finds a clip's output below one folder.

    Looked for, in this order: VIDEO_ID/CLIP_ID, VIDEO_ID_CLIP_ID, the video file's name without its ending, the id.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"--openface: expected a folder with OpenFace's output, found none at {folder}")
        self.folder = folder

    def stem(self, raw: Raw) -> Path | None:
        """The path of NAME.csv and NAME_aligned without their endings, or None when there is neither."""
        names = [raw.video.stem] if raw.video else []
        if raw.video_id and raw.clip_id:
            names = [f"{raw.video_id}/{raw.clip_id}", f"{raw.video_id}_{raw.clip_id}"]
        for name in [*names, raw.id]:
            try:
                stem = path_below(self.folder, name)
            except UnsafePath:
                continue
            if stem.with_name(stem.name + "_aligned").is_dir():
                return stem
        return None

    def faces(self, raw: Raw, indices: np.ndarray) -> dict[int, np.ndarray]:
        """Grey faces of the frames wanted, (64, 64) uint8 by frame number from 0; frames without a face are absent.

        Args:
            raw: the clip.
            indices: numbers of the frames wanted.
        """
        import cv2

        stem = self.stem(raw)
        if stem is None:
            return {}
        pictures = self._pictures(stem)
        found = {}
        for number in sorted(set(indices.tolist()) & set(pictures)):
            grey = cv2.imread(str(pictures[number]), cv2.IMREAD_GRAYSCALE)
            if grey is not None:
                found[number] = cv2.resize(grey, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA)
        return found

    def _pictures(self, stem: Path) -> dict[int, Path]:
        """Files of the main face by frame number: of several faces, the one tracked with success most often."""
        by_face: dict[int, dict[int, Path]] = {}
        for path in sorted(stem.with_name(stem.name + "_aligned").iterdir()):
            match = _PICTURE.fullmatch(path.name)
            if match:
                by_face.setdefault(int(match[1]), {})[int(match[2]) - 1] = path
        good = self._successes(stem.with_name(stem.name + ".csv"))
        if good is not None:
            by_face = {
                face: {frame: path for frame, path in pictures.items() if (face, frame) in good}
                for face, pictures in by_face.items()
            }
        return max(by_face.values(), key=len, default={})

    def _successes(self, table: Path) -> set[tuple[int, int]] | None:
        """(face, frame) of the rows that OpenFace itself trusts; None without a table."""
        if not table.is_file():
            return None
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            if not {"frame", "success"} <= set(rows.fieldnames or []):
                return None
            trusted = (row for row in rows if (row["success"] or "").strip() in ("1", "1.0"))
            return {(int(float(row.get("face_id") or 0)), int(float(row["frame"])) - 1) for row in trusted}
