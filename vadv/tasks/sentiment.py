"""Video-level sentiment: a regression in [-3, 3] from text, taught by video (sections 4 and 5.4.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shards.clip import Clip
from vadv import metrics
from vadv.config import Config
from vadv.models.batch import Batch
from vadv.models.text import lay
from vadv.tasks import Measure

OUTPUTS = ("text", "video", "prompt")
"""The three logits that regress the label, eqs. 9, 6 and 8; a student alone has the first only."""


class Sentiment:
    """The task that `task: sentiment` names."""

    measure = Measure("text", "mae", "MAE", "low")
    text = True
    sample = "sample"

    def __init__(self, config: Config, clips: int) -> None:
        from vadv.models import build_student, build_teacher
        from vadv.models.videoadviser import VideoAdviser
        from vadv.objectives.build import build_objective
        from vadv.training.gather import gather

        self.config = config
        student, self.tokenizer = build_student(config.student, config.seed)
        teacher = None
        if config.teacher is not None:
            data = config.data
            teacher = build_teacher(config.teacher, config.seed, frames=data.frames, frame_size=data.frame_size)
        objective = build_objective(config, teacher, student, clips, gather)
        self.module: nn.Module = VideoAdviser(teacher, student, objective)
        self.video = teacher is not None
        self.faces = config.teacher is not None and config.teacher.face

    def collate(self, clips: Sequence[Clip], epoch: int) -> Batch:
        """Tensors of one micro-batch; slots without a clip hold zeros and an empty text."""
        tokens = self.tokenizer(
            [clip.text for clip in clips], truncation=True, max_length=self.config.student.max_tokens
        )
        data = self.config.data
        frames = faces = mask = None
        if self.video and any(clip.frames is not None for clip in clips):
            frames = torch.zeros(len(clips), data.frames, 3, data.frame_size, data.frame_size, dtype=torch.uint8)
            for row, clip in enumerate(clips):
                if clip.frames is not None:
                    frames[row] = torch.from_numpy(clip.frames)
        if self.faces:
            faces = torch.zeros(len(clips), 64, 8)
            for row, clip in enumerate(clips):
                if clip.faces is not None:
                    faces[row] = torch.from_numpy(clip.faces)
            mask = faces.ne(0).any(-1)
        return Batch(
            weight=torch.tensor([float(clip.counts) for clip in clips]),
            label=torch.tensor([clip.label if clip.counts else 0.0 for clip in clips], dtype=torch.float32),
            index=torch.tensor([max(0, clip.index) for clip in clips]),
            noise=torch.tensor([noise_key(self.config.seed, epoch, clip) for clip in clips]),
            text=lay(tokens["input_ids"]),
            frames=frames,
            faces=faces,
            face_mask=mask,
        )

    def columns(self, logits: dict[str, Tensor]) -> dict[str, Tensor]:
        """Columns text_logit, video_logit, prompt_logit and score_CLASS, those that the model has."""
        columns = {f"{name}_logit": logits[name] for name in OUTPUTS if name in logits}
        if self.config.teacher is not None and "scores" in logits:
            columns |= {f"score_{name}": logits["scores"][:, i] for i, name in enumerate(self.config.teacher.classes)}
        return columns

    def metrics(self, table: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """Sentiment metrics of each logit, and the accuracy of the prompts' argmax against label >= 0 (Table 7)."""
        found = {
            name: metrics.sentiment(table[f"{name}_logit"], table["label"])
            for name in OUTPUTS
            if f"{name}_logit" in table
        }
        scores = [table[name] for name in table if name.startswith("score_")]
        if len(scores) == 2:
            positive = scores[1] > scores[0]
            found["scores"] = {"acc2": float(np.mean(positive == (table["label"] >= 0))), "n": len(positive)}
        return found

    def save_student(self, folder: Path, facts: dict[str, Any]) -> None:
        """An ordinary Hugging Face folder of RoBERTa/BertForSequenceClassification with its tokenizer."""
        from vadv.models.student_weights import quiet

        with quiet():
            self.module.student.to_stock().save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)


def noise_key(seed: int, epoch: int, clip: Clip) -> int:
    """Key of a clip's random numbers in one epoch: 63 bits, the same on any number of ranks."""
    text = f"{seed}/{epoch}/{clip.dataset}/{clip.id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


TASK = Sentiment
