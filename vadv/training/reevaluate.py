"""Metrics of what a finished run left behind: the whole model from its run folder, or the student from its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vadv import tasks
from vadv.clips import open_clips
from vadv.config import Data
from vadv.config_file import load
from vadv.retrieval.folder import is_students
from vadv.training.distributed import join
from vadv.training.evaluation import Evaluation, evaluate, open_stream, write_predictions
from vadv.training.folder import CONFIG

Metrics = dict[str, dict[str, float]]


def evaluate_folder(
    folder: str | Path, shards: Sequence[str] | None, split: str, predictions: str | Path | None = None
) -> Metrics:
    """Evaluate a run folder (all outputs), or the folder of its student or students alone.

    Args:
        folder: RUN, or a Hugging Face folder such as RUN/student.
        shards: shard folders; None takes those of the run.
        split: train, valid or test.
        predictions: a csv file to write, or None.

    Raises:
        ValueError: neither a run nor a student, or no shards given for a student.
    """
    folder = Path(folder)
    if (folder / CONFIG).is_file():
        return _evaluate_run(folder, shards, split, predictions)
    if is_students(folder):
        return _evaluate_students(folder, shards, split, predictions)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: expected a run folder (with {CONFIG}) or a student folder (with config.json)")
    return _evaluate_student(folder, shards, split, predictions)


def _evaluate_run(folder: Path, shards: Sequence[str] | None, split: str, predictions: Any) -> Metrics:
    from safetensors.torch import load_file

    config = load(folder / CONFIG)
    best = folder / "best.safetensors"
    if not best.is_file():
        raise ValueError(f"{folder}: expected the weights of a validated student, found no {best.name}; train longer")
    if shards:
        config = replace(config, data=replace(config.data, shards=list(shards)))
    world = join(config.train.stall_timeout)
    kind = tasks.kind(config).shards
    clips = open_clips(config.data, split, kind)
    task = tasks.build(config, len(open_clips(config.data, "train", kind)))
    weights = load_file(best)
    try:
        unknown = task.module.load_state_dict(weights, strict=False).unexpected_keys
    except RuntimeError as error:  # shapes: shards whose features or classes are others
        line = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{best}: expected weights of the model that {shards or folder} asks for, found {line}"
        ) from None
    if unknown:
        raise ValueError(f"{best}: expected weights of the model of {folder / CONFIG}, found {unknown[0]}")
    with open_stream(clips, task, config, world) as stream:
        found = evaluate(task.module.to(world.device), task, stream, world)
    if predictions:
        write_predictions(Path(predictions), found, clips)
    world.leave()
    return found.metrics


def _evaluate_students(folder: Path, shards: Sequence[str] | None, split: str, predictions: Any) -> Metrics:
    """The audio and the visual student of a retrieval run."""
    from vadv.retrieval.folder import open_students
    from vadv.retrieval.index import index_shards
    from vadv.tasks.retrieval import retrieval_metrics

    if predictions:
        raise ValueError(
            "--predictions: expected a run folder or a text student; launch/retrieve.py index writes vectors"
        )
    index = index_shards(open_students(folder), _shards_of(folder, shards), [split])
    label = np.array([clip["label"] for clip in index.clips])
    found = retrieval_metrics(index.vectors["audio"], index.vectors["visual"], label)
    return {"students": {**found, "n": len(label)}}


def _shards_of(folder: Path, shards: Sequence[str] | None) -> Sequence[str]:
    if shards:
        return shards
    if not (folder.parent / CONFIG).is_file():
        raise ValueError(f"{folder}: expected --shards with a student folder outside of its run")
    return load(folder.parent / CONFIG).data.folders()


def _evaluate_student(folder: Path, shards: Sequence[str] | None, split: str, predictions: Any) -> Metrics:
    from vadv import metrics
    from vadv.student.engines import TorchEngine
    from vadv.student.folder import open_student
    from vadv.student.predictor import Predictor

    clips = open_clips(Data(shards=list(_shards_of(folder, shards))), split, "sentiment")
    meta = [clips.meta(*clips.locate(index)) for index in range(len(clips))]
    label = np.array([row["label"] for row in meta], dtype=float)
    student = open_student(folder)
    predicted = Predictor(student, TorchEngine(student)).predict([row["text"] for row in meta]).astype(float)
    found = {"text": metrics.sentiment(predicted, label)}
    if predictions:
        table = {"index": np.arange(len(clips)), "label": label, "text_logit": predicted}
        write_predictions(Path(predictions), Evaluation(table, found, []), clips)
    return found
