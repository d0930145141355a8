"""Every clip of a split once, over any number of ranks, and the metrics of the whole."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shards.clip import Fault
from shards.dataset import ClipSet, ClipStream
from vadv.config import Config
from vadv.features.cache import FeatureCache, SplitFeatures
from vadv.tasks import Task
from vadv.training.distributed import World
from vadv.training.errors import Stopped

MICRO_BATCH = 16
"""Clips per rank and forward pass; there is no gradient to hold, so more than in training."""


@dataclass
class Evaluation:
    """What one pass over a split gave.

    Attributes:
        table: `index`, `label` and the task's columns, (N,) each, ordered by index; only clips that could be read.
        metrics: per output of the model.
        faults: clips that could not be read, of this rank.
    """

    table: dict[str, np.ndarray]
    metrics: dict[str, dict[str, float]]
    faults: list[Fault]


class Interrupted(Exception):
    """A signal asked to stop in the middle of an evaluation."""


def open_stream(
    clips: ClipSet, task: Task, config: Config, world: World, cache: FeatureCache | None = None
) -> ClipStream:
    """The clips of a split in their order, with frames from the middle of each segment; this rank's share."""
    return ClipStream(
        clips,
        seed=config.seed,
        batch_size=MICRO_BATCH * world.size,
        micro_batch_size=MICRO_BATCH,
        world_size=world.size,
        rank=world.rank,
        shuffle=False,
        frames=config.data.frames,
        frame_size=config.data.frame_size,
        workers=config.data.workers if task.video else 0,
        prefetch=config.data.prefetch,
        decode_timeout=config.data.decode_timeout,
        video=task.video,
        faces=task.faces,
        features=cache.of(clips) if cache is not None else None,
    )


def evaluate(
    model: Any,
    task: Task,
    stream: ClipStream,
    world: World,
    should_stop: Callable[[], bool] = lambda: False,
    limit: int | None = None,
) -> Evaluation:
    """Run `model` over all clips of a split, each rank its share.

    Args:
        model: the DeepSpeed engine, or the bare module for one process; called by every rank equally often.
        stream: of `open_stream`.
        should_stop: asked before each batch, the same answer on every rank.
        limit: stop after about so many clips (debug mode).

    Raises:
        Interrupted: `should_stop` said so.
        Stopped: a prediction is not a finite number.
    """
    names: list[str] = []
    rows: list[np.ndarray] = []
    faults: list[Fault] = []
    model.eval()
    with torch.no_grad():
        for step in stream.epoch(0):
            if should_stop():
                raise Interrupted
            if limit is not None and step.position > limit and rows:
                break
            for micro_batch in step.micro_batches:
                batch = task.collate(micro_batch, epoch=0).to(world.device)
                if isinstance(stream.features, SplitFeatures):
                    batch = stream.features.fill(batch, micro_batch)
                outputs = task.columns(model(batch)["logits"])
                names = list(outputs)
                columns = [batch.index, batch.label, *outputs.values()]
                table = torch.stack([column.detach().double().cpu() for column in columns], dim=1)
                rows.append(table[batch.weight.cpu() > 0].numpy())
                faults += [clip.fault for clip in micro_batch if clip.fault is not None]
    model.train()
    merged = world.rows(np.concatenate(rows))
    merged = merged[np.argsort(merged[:, 0], kind="stable")]
    if not np.isfinite(merged).all():
        raise Stopped("the model's predictions are not finite: its weights have diverged; lower train.lr")
    found = {name: merged[:, i] for i, name in enumerate(["index", "label", *names])}
    return Evaluation(found, task.metrics(found) if len(merged) else {}, faults)


def write_predictions(path: Path, evaluation: Evaluation, clips: ClipSet) -> None:
    """RUN/predictions/SPLIT.csv: id, dataset, text, label and each output, one row a clip in the split's order."""
    path.parent.mkdir(exist_ok=True)
    table = evaluation.table
    outputs = [name for name in table if name not in ("index", "label")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "dataset", "text", "label", *outputs])
        for row, index in enumerate(table["index"].astype(int)):
            meta = clips.meta(*clips.locate(index))
            writer.writerow(
                [meta["id"], meta["dataset"], meta["text"], f"{table['label'][row]:.6g}"]
                + [f"{table[name][row]:.9g}" for name in outputs]
            )
