"""One optimizer step: forward and backward of each micro-batch, the update, and what the ranks must agree on after it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from shards.clip import Clip
from shards.stream import Step
from vadv.config import Config
from vadv.features.cache import SplitFeatures
from vadv.models.batch import Batch
from vadv.tasks import Task
from vadv.training import folder
from vadv.training.distributed import World
from vadv.training.engine import set_learning_rate
from vadv.training.errors import Stopped
from vadv.training.flops import Work
from vadv.training.logging import RunLog
from vadv.training.schedule import warmup_cosine
from vadv.training.state import State
from vadv.training.watchdog import WAITING, Watchdog

SPIKE = 4.0
"""A logged loss so many times the median of the last ones is reported with its sample ids."""


@dataclass
class Tally:
    """What one optimizer step of this rank amounted to.

    Attributes:
        terms: sums over this rank's samples of the loss and its named terms, on the device.
        clips: the step's samples on this rank, in order, empty slots left out.
        waited, took: seconds waiting for data, and in all.
        flops: floating-point operations that the model needed.
        tokens, padding: tokens computed, and how many of them belong to no text.
        refused: whether the update was refused for non-finite gradients, the same on all ranks.
    """

    terms: dict[str, Any] = field(default_factory=dict)
    clips: list[Clip] = field(default_factory=list)
    waited: float = 0.0
    took: float = 0.0
    flops: float = 0.0
    tokens: int = 0
    padding: int = 0
    refused: bool = False

    @property
    def ids(self) -> list[str]:
        """Ids of the step's samples, in order."""
        return [clip.id for clip in self.clips]


@dataclass
class Stepper:
    """Takes the steps of a run. All methods are called by every rank.

    Attributes:
        schedule_steps: optimizer steps that the learning-rate schedule spans.
        work: counts the model's operations.
        peak: operations per second of one device at best, where that is known.
        features: of the training clips, when they are cached.
        clips: training clips of an epoch.
        recent: the last logged losses.
    """

    engine: Any
    task: Task
    config: Config
    world: World
    state: State
    log: RunLog
    watch: Watchdog
    run: Path
    clips: int
    schedule_steps: int
    work: Work
    peak: float | None = None
    features: SplitFeatures | None = None
    recent: list[float] = field(default_factory=list)

    def take(self, step: Step, batches: Sequence[Batch], tally: Tally) -> None:
        """Train on one step's clips, given as tensors on the device."""
        config, state, engine = self.config, self.state, self.engine
        set_learning_rate(
            engine, config.train.lr * warmup_cosine(state.step, config.train.warmup_steps, self.schedule_steps)
        )
        # Our randomness is keyed by sample; whatever a library still draws from the global generator resumes with this.
        torch.manual_seed(hash((config.seed, state.step, self.world.rank)) & (2**63 - 1))
        # DeepSpeed averages over ranks and micro-batches; losses are sums, so that this gives the mean over the step's
        # planned samples, however they are spread.
        scale = self.world.size * len(step.micro_batches) / step.planned
        skipped = engine.skipped_steps
        for micro_batch, batch in zip(step.micro_batches, batches, strict=True):
            self.count(batch, micro_batch, tally)
            if self.features is not None:
                batch = self.features.fill(batch, micro_batch, state.epoch)
            output = engine(batch)
            with self.watch.phase(WAITING):
                engine.backward(output["loss"] * scale)
                engine.step()
            for name, value in {"loss": output["loss"], **output["terms"]}.items():
                tally.terms[name] = tally.terms.get(name, 0.0) + value.detach()
            tally.clips += [clip for clip in micro_batch if clip.index >= 0]
        tally.refused = engine.skipped_steps > skipped
        state.step += 1
        state.position = step.position
        self.watch.alive(state.step)
        self.log.samples(state.step, state.epoch, tally.ids)

    def keep_in_step(self, tally: Tally, stop: bool, writing: bool) -> tuple[bool, bool]:
        """Tell the other ranks what concerns them: one small message a step, beside the GPU.

        Args:
            stop: whether a signal came to this rank.
            writing: whether this rank still writes a checkpoint.

        Returns:
            Whether a signal came to any rank, whether any still writes.

        Raises:
            Stopped: a refused update, or too many clips that could not be read; on all ranks.
        """
        if tally.refused:
            self._refused(tally)
        faults = [clip.fault for clip in tally.clips if clip.fault is not None]
        self.log.faults(self.state.step, self.state.epoch, "train", faults)
        with self.watch.phase(WAITING):
            stops, bad, writers = self.world.agree([stop, len(faults), writing], op="sum")
        self.state.bad += round(bad)
        allowed = self.config.data.max_bad_fraction
        if self.state.bad > allowed * self.clips:
            last = [f"{fault.id} ({fault.cause})" for rank in self.world.collect(faults) for fault in rank]
            raise Stopped(
                f"{self.state.bad} of {self.clips} clips could not be read in epoch {self.state.epoch + 1}, more than "
                f"data.max_bad_fraction={allowed:g} allows; the last: {', '.join(last)}; all of them: "
                f"{self.run / folder.BAD_SAMPLES}"
            )
        return stops > 0, writers > 0

    def numbers(self, step: Step, tally: Tally) -> Mapping[str, Any]:
        """What is logged of this step, over all ranks. The only place where the host waits for the GPU's results."""
        names = list(tally.terms)
        *sums, flops, tokens, padding = self.world.agree(
            [*(float(tally.terms[name]) for name in names), tally.flops, tally.tokens, tally.padding], op="sum"
        )
        values = {name: value / step.planned for name, value in zip(names, sums)}
        waits, times = zip(*self.world.collect((tally.waited, tally.took)))
        if max(waits) > 1 and max(waits) > 3 * statistics.median(waits):
            slow = waits.index(max(waits))
            self._event("straggler", rank=slow, waited_for_data=max(waits), median=statistics.median(waits))
        if len(self.recent) >= 10 and values["loss"] > SPIKE * statistics.median(self.recent):
            self._event("loss spike", ids=[sample for rank in self.world.collect(tally.ids) for sample in rank])
        self.recent = [*self.recent[-49:], values["loss"]]
        norm = self.engine.get_global_grad_norm()
        return {
            **values,
            "lr": self.engine.optimizer.param_groups[0]["lr"],
            "grad_norm": float(norm) if norm is not None else None,
            "samples_per_second": step.planned / max(times),
            "data_wait": max(waits) / max(times),
            "tflops": flops / max(times) / 1e12,
            "mfu": flops / max(times) / (self.peak * self.world.size) if self.peak else None,
            "padded_tokens": padding / tokens if tokens else None,
            "bad_samples": self.state.bad,
            "skipped_steps": self.state.skipped,
        }

    def count(self, batch: Batch, clips: Sequence[Clip], tally: Tally) -> None:
        """Operations and tokens of a micro-batch."""
        encoded = len(clips) if self.features is None else sum(clip.frames is not None for clip in clips)
        tally.flops += self.work.micro_batch(batch, encoded).total
        if batch.text is not None:
            tally.tokens += batch.text.ids.numel()
            tally.padding += batch.text.filler

    def _refused(self, tally: Tally) -> None:
        """DeepSpeed refused an update with non-finite gradients, on all ranks alike; say whose, and stop or go on."""
        self.state.skipped += 1
        if self.engine.fp16_enabled() and self.engine.optimizer.loss_scaler.cur_scale > 1:
            return  # loss scaling feels its way: a skipped step is how it finds the scale
        wrong = [name for name, value in tally.terms.items() if not math.isfinite(float(value))]
        found = self.world.collect((wrong, tally.ids))
        terms = sorted({name for names, _ in found for name in names})
        ids = [sample for names, samples in found for sample in samples if names or not terms]
        line = (
            f"step {self.state.step} has non-finite numbers in {', '.join(terms) or 'gradients'}; "
            f"its samples: {', '.join(ids)}"
        )
        self._event("skipped step", line=line)
        if self.state.skipped > self.config.train.skip_bad_steps:
            raise Stopped(f"{line}; no update was made (train.skip_bad_steps={self.config.train.skip_bad_steps})")

    def _event(self, name: str, **facts: Any) -> None:
        self.log.scalars(self.state.step, self.state.epoch, "train", {"event": name, **facts})
