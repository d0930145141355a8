"""Audio-visual retrieval: an audio and a visual student find each other's clips, taught by video (sections 5.4.2, 5.6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shards.clip import Clip, Fault
from shards.dataset import ClipSet
from shards.features import described
from shards.vectors import MODALITIES, Vectors, read_vectors
from vadv import metrics
from vadv.clips import open_clips
from vadv.collate import collate
from vadv.config import Config
from vadv.models.batch import Batch
from vadv.tasks import Measure

LOGITS = (*MODALITIES, "video", "prompt")
"""The four logits over classes; students alone have the first two only."""


class Retrieval:
    """The task that `task: retrieval` names."""

    measure = Measure("students", "map_mean", "mAP", "high")
    text = False
    sample = "sample-events"
    shards = "retrieval"

    def __init__(self, config: Config, clips: int) -> None:
        from vadv.models.audiovisual import AudioVisualAdviser
        from vadv.models.eics import build_students
        from vadv.models.teacher import build_teacher
        from vadv.objectives.build import build_objective
        from vadv.objectives.spaces import SpaceLoss
        from vadv.training.gather import gather

        train = open_clips(config.data, "train", self.shards)
        sample = read_vectors(train, config.retrieval.statistics_clips)
        self.config = config
        self.features = features_of(train)
        self.classes = class_names(config, train, sample)
        self.widths = {name: getattr(sample, name).shape[1] for name in MODALITIES}
        teacher = None
        if config.teacher is not None:
            if not sample.video:
                raise ValueError(
                    f"teacher: expected clips with video, found features only in {', '.join(config.data.folders())}; "
                    "a teacher has nothing to watch there: set teacher to null for the students alone"
                )
            if config.teacher.face and any(manifest.packing.get("faces") == "none" for manifest in train.manifests):
                raise ValueError(
                    f"teacher.face: expected face features, found {', '.join(config.data.folders())} packed without; "
                    "set teacher.face to false, or pack with --find-faces"
                )
            teacher = build_teacher(
                config.teacher,
                config.seed,
                frames=config.data.frames,
                frame_size=config.data.frame_size,
                outputs=len(self.classes),
            )
        students = build_students(
            self.widths, hidden=config.retrieval.hidden, classes=len(self.classes), seed=config.seed
        )
        for name, student in students.items():
            student.standardise(torch.from_numpy(getattr(sample, name)))
        sides = MODALITIES if config.retrieval.sides == "both" else (config.retrieval.sides,)
        taught = {name: students[name] for name in sides}
        objective = build_objective(config, teacher, taught, clips, gather, labels="class")
        spaces = SpaceLoss(config.retrieval.explicit, config.retrieval.implicit)
        self.module: nn.Module = AudioVisualAdviser(teacher, students, objective, spaces)
        self.video = teacher is not None
        self.faces = config.teacher is not None and config.teacher.face

    def collate(self, clips: Sequence[Clip], epoch: int) -> Batch:
        """Tensors of one micro-batch; slots without a clip hold zeros. A clip without fitting vectors becomes a fault."""
        for clip in clips:
            if clip.counts:
                clip.fault = self._fault(clip)
        vectors = {name: torch.zeros(len(clips), width) for name, width in self.widths.items()}
        for row, clip in enumerate(clips):
            if clip.counts:
                for name in MODALITIES:
                    vectors[name][row] = torch.from_numpy(np.array(getattr(clip, name)))
        return collate(
            self,
            clips,
            epoch,
            label=torch.tensor([int(clip.label) if clip.counts else 0 for clip in clips]),
            audio=vectors["audio"],
            image=vectors["visual"],
        )

    def _fault(self, clip: Clip) -> Fault | None:
        where = f"clip {clip.index}"
        for name, width in self.widths.items():
            vector = getattr(clip, name)
            if vector is None:
                return Fault(id=clip.id, cause="missing", detail=f"the sample has no {name}.npy", where=where)
            if len(vector) != width:
                detail = f"{name}.npy: expected {width} numbers, found {len(vector)}"
                return Fault(id=clip.id, cause="invalid", detail=detail, where=where)
        if not 0 <= clip.label < len(self.classes):
            detail = f"label: expected a class below {len(self.classes)}, found {clip.label:g}"
            return Fault(id=clip.id, cause="invalid", detail=detail, where=where)
        return None

    def columns(self, logits: dict[str, Tensor]) -> dict[str, Tensor]:
        """Columns audio_0, audio_1, … of each logit the model has, and score_CLASS, p of eq. 8."""
        columns = {
            f"{name}_{number}": logits[name][:, number]
            for name in LOGITS
            if name in logits
            for number in range(len(self.classes))
        }
        if "scores" in logits:
            columns |= {f"score_{name}": logits["scores"][:, number] for number, name in enumerate(self.classes)}
        return columns

    def metrics(self, table: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """`students`: mAP and recall of retrieval (Table 4); the share of right classes for each logit beside it."""
        label = table["label"].astype(np.int64)
        logits = {name: _matrix(table, f"{name}_", range(len(self.classes))) for name in LOGITS if f"{name}_0" in table}
        audio, visual = (vectors(logits[name], self.config.retrieval.vector) for name in MODALITIES)
        found: dict[str, dict[str, float]] = {"students": {**retrieval_metrics(audio, visual, label), "n": len(label)}}
        for name, logit in logits.items():
            found[name] = {"accuracy": float(np.mean(logit.argmax(1) == label)), "n": len(label)}
        if f"score_{self.classes[0]}" in table:
            scores = _matrix(table, "score_", self.classes)
            found["scores"] = {"accuracy": float(np.mean(scores.argmax(1) == label)), "n": len(label)}
        return found

    def save_student(self, folder: Path, facts: dict[str, Any]) -> None:
        """Both students as safetensors, with a config.json that rebuilds them (vadv/retrieval/folder.py)."""
        from vadv.retrieval.folder import save_students

        save_students(
            folder,
            dict(self.module.student.items()),
            hidden=self.config.retrieval.hidden,
            vector=self.config.retrieval.vector,
            classes=self.classes,
            features=self.features,
        )


def vectors(logits: np.ndarray, kind: str) -> np.ndarray:
    """(N, C) logits → what is compared: `logits` themselves or `probabilities`, their softmax."""
    if kind == "logits":
        return logits
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def retrieval_metrics(audio: np.ndarray, visual: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """mAP in both directions and their mean, and recall@k of a clip's own other half."""
    found = metrics.retrieval(audio, visual, label)
    for name, queries, gallery in (("a2v", audio, visual), ("v2a", visual, audio)):
        found |= {f"recall{k}_{name}": share for k, share in metrics.recall_at_k(queries, gallery).items()}
    return found


def class_names(config: Config, train: ClipSet, sample: Vectors) -> list[str]:
    """Names of the classes by number: the teacher's, else those in the data, else the numbers.

    Raises:
        ValueError: the shards hold classes that the teacher has no prompt for.
    """
    highest = max(int(part.labels.get("max") or 0) for manifest in train.manifests for part in manifest.splits.values())
    if config.teacher is not None:
        names = list(config.teacher.classes)
        if highest >= len(names):
            raise ValueError(
                f"teacher.classes: expected a name for each of {highest + 1} event classes in "
                f"{', '.join(config.data.folders())}, found {len(names)}: {', '.join(names)}"
            )
        return names
    known = dict(zip(sample.labels.tolist(), sample.texts))
    return [known.get(number) or str(number) for number in range(highest + 1)]


def features_of(clips: ClipSet) -> dict[str, str]:
    """What made the vectors, by modality.

    Raises:
        ValueError: something else in one of several folders.
    """
    found = [described(manifest.packing) for manifest in clips.manifests]
    for name in MODALITIES:
        if len(made := sorted({one[name] for one in found})) > 1:
            raise ValueError(
                f"{', '.join(map(str, clips.folders))}: expected {name} vectors that were made in one way, found "
                f"{' and '.join(made)}; pack them with the same features"
            )
    return found[0]


def _matrix(table: dict[str, np.ndarray], prefix: str, names: Sequence[object]) -> np.ndarray:
    return np.stack([table[f"{prefix}{name}"] for name in names], axis=1)


TASK = Retrieval
