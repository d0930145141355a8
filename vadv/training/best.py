"""Validation, the best student so far, and what a finished run leaves."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shards.dataset import ClipSet
from shards.stream import ClipStream
from vadv.clips import open_clips
from vadv.config import Config
from vadv.features.cache import FeatureCache
from vadv.tasks import Task
from vadv.training import board, folder
from vadv.training.distributed import World
from vadv.training.evaluation import Evaluation, evaluate, open_stream, write_predictions
from vadv.training.logging import RunLog
from vadv.training.result import variant, write_result
from vadv.training.state import State
from vadv.training.weights import gathered, load_trained, save_trained

WEIGHTS = "best.safetensors"
"""What training changed of the whole model, teacher included, at the best validation."""


@dataclass
class Judge:
    """Evaluates and keeps. All methods are called by every rank.

    Attributes:
        clips: the splits opened so far.
        should_stop: asked before each batch of an evaluation, the same answer on every rank.
        limit: clips that an evaluation is cut to (debug mode).
        open: closes the streams at the end; they stay open, since starting decoders takes seconds.
        parameters: numbers of them, for the result.
        cache: of frozen features, if there is one.
    """

    engine: Any
    task: Task
    config: Config
    world: World
    state: State
    log: RunLog
    run: Path
    clips: dict[str, ClipSet]
    should_stop: Callable[[], bool]
    limit: int | None
    open: contextlib.ExitStack
    parameters: dict[str, int]
    cache: FeatureCache | None = None
    streams: dict[str, ClipStream] = field(default_factory=dict)

    def evaluate(self, split: str) -> Evaluation:
        """Every clip of a split once; raises `Interrupted` when a signal comes."""
        if split not in self.streams:
            self.clips.setdefault(split, open_clips(self.config.data, split))
            stream = open_stream(self.clips[split], self.task, self.config, self.world, self.cache)
            self.streams[split] = self.open.enter_context(stream)
        found = evaluate(self.engine, self.task, self.streams[split], self.world, self.should_stop, self.limit)
        self.log.faults(self.state.step, self.state.epoch, split, found.faults)
        return found

    def validate(self) -> None:
        """Metrics of the validation split; keeps the student if it is the best so far."""
        state, measure = self.state, self.task.measure
        found = self.evaluate("valid")
        self.log.scalars(state.step, state.epoch, "valid", {"measure": asdict(measure), **found.metrics})
        self.log.histograms(state.step, "valid", found.table)
        score = found.metrics[measure.output][measure.metric]
        if self.world.first:
            print(f"epoch {state.epoch + 1}  valid {measure.name} {score:.4f}", file=sys.stderr, flush=True)
        if state.best is None or measure.sign * score < measure.sign * state.best[measure.metric]:
            state.best = {"epoch": state.epoch + 1, "step": state.step, measure.metric: score}
            self._keep(found)

    def finish(self) -> None:
        """The best student on validation and test: predictions, result.json, TensorBoard's hyperparameters."""
        load_trained(self.engine, self.run / WEIGHTS, self.world)
        found = {split: self.evaluate(split) for split in ("valid", "test")}
        if self.world.first:
            for split, evaluation in found.items():
                write_predictions(self.run / "predictions" / f"{split}.csv", evaluation, self.clips[split])
                self.log.scalars(self.state.step, self.state.epoch, f"best_{split}", evaluation.metrics)
            write_result(self.run, self.config, self.state, self.task, found, self.clips, self.parameters)
            self._board(found)
        self.world.barrier()

    def _board(self, found: dict[str, Evaluation]) -> None:
        self.log.hyperparameters(board.hyperparameters(self.config), board.results(found["test"].metrics))
        for split, evaluation in found.items():
            clips = self.clips[split]
            lines = board.worst_texts(evaluation.table, lambda index: clips.meta(*clips.locate(index))["text"])  # noqa: B023
            self.log.text(self.state.step, f"{split}/largest errors", lines)

    def _keep(self, found: Evaluation) -> None:
        save_trained(self.engine, self.run / WEIGHTS, self.world)
        facts = {
            "dataset": self.clips["train"].dataset,
            "max_tokens": self.config.student.max_tokens,
            "seed": self.config.seed,
            "variant": variant(self.config),
            "base": self.config.student.model,
            "label_range": label_range(self.clips["train"]),
            **folder.commit(self.run),
            "best": self.state.best,
            "valid": found.metrics,
        }
        with gathered(self.engine.module.parameters()):
            if self.world.first:
                with folder.replaced(self.run / "student") as scratch:
                    self.task.save_student(scratch, facts)
                    folder.write_json(scratch / "videoadviser.json", facts)


def label_range(clips: ClipSet) -> list[float] | None:
    """Lowest and highest label that a student has seen, as the manifests tell."""
    labels = [manifest.splits[clips.split].labels for manifest in clips.manifests if clips.split in manifest.splits]
    ends = [float(part[end]) for part in labels for end in ("min", "max") if part.get(end) is not None]
    return [min(ends), max(ends)] if ends else None
