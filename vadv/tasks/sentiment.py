"""Video-level sentiment: a regression in [-3, 3] from text, taught by video (sections 4 and 5.4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shards.clip import Clip
from vadv import metrics
from vadv.collate import collate
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
    shards = "sentiment"

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
        return collate(
            self,
            clips,
            epoch,
            label=torch.tensor([clip.label if clip.counts else 0.0 for clip in clips], dtype=torch.float32),
            text=lay(tokens["input_ids"]),
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


TASK = Sentiment
