"""A run, top to bottom: join the ranks, build, resume, step, evaluate, save, stop, finish."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from shards.clip import Clip
from shards.dataset import ClipSet, ClipStream, Step
from vadv import tasks
from vadv.config import Config
from vadv.training import checkpoints, folder
from vadv.training.distributed import World, is_lost_peer, join
from vadv.training.engine import build_engine, deepspeed_settings, set_learning_rate, zero_stage
from vadv.training.errors import Stopped
from vadv.training.evaluation import Evaluation, Interrupted, evaluate, open_stream, write_predictions
from vadv.training.logging import Progress, RunLog
from vadv.training.result import write_result
from vadv.training.saving import Saver, load
from vadv.training.schedule import warmup_cosine
from vadv.training.signals import StopSignals
from vadv.training.watchdog import WAITING, Watchdog
from vadv.training.weights import gathered, load_trained, save_trained

FINISHED, STOPPED, PREEMPTED = 0, 3, 75
"""Exit codes of a run (docs/reliability.md)."""
DEBUG_CLIPS = 8
"""Clips per split that debug mode evaluates."""
SPIKE = 4.0
"""A logged loss so many times the median of the last ones is reported with its sample ids."""


@dataclass
class State:
    """All that the loop must remember besides the engine's own state.

    Attributes:
        step: optimizer steps taken.
        epoch: epochs completed.
        position: samples consumed in the current epoch.
        bad: clips of the current epoch that could not be read, all ranks together.
        skipped: steps skipped for non-finite numbers.
        best: {"epoch", "step", score name: value} of the best validation so far.
        seconds: wall time of all attempts.
        data: fingerprint of the training data.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    bad: int = 0
    skipped: int = 0
    best: dict[str, Any] | None = None
    seconds: float = 0.0
    data: str = ""


@dataclass
class Tally:
    """What one optimizer step of this rank amounted to.

    Attributes:
        terms: sums over this rank's samples of the loss and its named terms, on the device.
        ids: sample ids, in order.
        faults: clips that could not be read.
        waited, took: seconds waiting for data, and in all.
    """

    terms: dict[str, Any] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    waited: float = 0.0
    took: float = 0.0


class Run:
    """One attempt at a run, by one rank. See `vadv.training.train`."""

    def __init__(self, config: Config, run: Path, resume: str, debug: bool, stop: StopSignals) -> None:
        self.config, self.run, self.resume, self.debug, self.stop = config, run, resume, debug, stop

    def train(self) -> int:
        """Train to the end, or until something ends it; returns the exit code."""
        # The watchdog knows better than a collective's timeout who is to blame, so it comes first.
        world = join(2 * self.config.train.stall_timeout)
        self.watch = Watchdog(self.run, world.rank, world.size, self.config.train.stall_timeout)
        try:
            code = self._train(world)
        except Stopped as error:
            if world.first:
                print(f"stopped: {error}", file=sys.stderr, flush=True)
            code = STOPPED
        except RuntimeError as error:
            if world.size == 1 or not is_lost_peer(error):
                raise
            print(f"stopped: rank {world.rank} after step {self.watch.step}: {self.watch.lost()}", file=sys.stderr)
            sys.stderr.flush()
            os._exit(STOPPED)  # the broken process group could keep an orderly exit waiting
        finally:
            self.watch.close()
        world.leave()
        return code

    def _train(self, world: World) -> int:
        config = self.config
        settings = deepspeed_settings(config, world.size)  # wrong arithmetic is told before anything is loaded
        clips = {split: ClipSet(config.data.folders(), split) for split in ("train", "valid")}
        self.world, self.clips = world, clips
        self.steps_per_epoch = -(-len(clips["train"]) // config.train.batch_size)
        self.total = min(config.train.epochs * self.steps_per_epoch, config.train.max_steps or sys.maxsize)
        checkpoint = self._prepare_folder(zero_stage(settings))
        if checkpoint is not None and self._already_finished():
            return FINISHED

        self.task = tasks.build(config, len(clips["train"]))
        elastic = checkpoint is not None and checkpoint.world_size != world.size and checkpoint.zero_stage > 0
        self.engine = build_engine(self.task.module, config, world, universal=elastic)
        self.state = State(data=folder.data_fingerprint(clips["train"]))
        if checkpoint is not None:
            load(self.engine, checkpoint, world, universal=elastic)
            self.state = State(**checkpoint.state)
        self.saver = Saver(
            self.engine, self.run / "checkpoints", world, config.train.keep_checkpoints, zero_stage(settings)
        )
        self.saver.saved_step = checkpoint.step if checkpoint is not None else None
        self._record()
        self.log = RunLog(self.run, world.rank, config.log.samples, self.state.step)
        self.began = time.monotonic() - self.state.seconds
        self.streams: dict[str, ClipStream] = {}
        with contextlib.ExitStack() as self.open, torch.autograd.set_detect_anomaly(self.debug):
            self.open.callback(self.log.close)
            return self._loop()

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _loop(self) -> int:
        config, state, train = self.config, self.state, self.config.train
        self.progress = Progress(self.total, state.step)
        self.recent: list[float] = []
        with self._stream() as stream:
            while state.epoch < train.epochs and state.step < self.total:
                for step, tally in self._steps(stream):
                    self._take(step, tally)
                    stopping = self._keep_in_step(tally)
                    if state.step % config.log.every == 0 or state.step == self.total:
                        self._log(step, tally)
                    if stopping:
                        return self._leave()
                    if train.checkpoint_every and state.step % train.checkpoint_every == 0:
                        self._save()
                    if state.step >= self.total:
                        break
                if state.position < len(self.clips["train"]):
                    break  # max_steps came in the middle of an epoch
                if (state.epoch + 1) % train.evaluate_every == 0 or state.epoch + 1 == train.epochs:
                    try:
                        self._validate()
                    except Interrupted:
                        return self._leave()
                state.epoch, state.position, state.bad = state.epoch + 1, 0, 0
                if not train.checkpoint_every:
                    self._save()
        return self._finish()

    def _stream(self) -> ClipStream:
        config, data = self.config, self.config.data
        return ClipStream(
            self.clips["train"],
            seed=config.seed,
            batch_size=config.train.batch_size,
            micro_batch_size=config.train.micro(self.world.size),
            world_size=self.world.size,
            rank=self.world.rank,
            shuffle=True,
            window=data.shuffle_window,
            views=data.views,
            frames=data.frames,
            frame_size=data.frame_size,
            workers=data.workers if self.task.video else 0,
            prefetch=data.prefetch,
            decode_timeout=data.decode_timeout,
            video=self.task.video,
            faces=self.task.faces,
        )

    def _steps(self, stream: ClipStream) -> Iterator[tuple[Step, Tally]]:
        """The steps that are left of the current epoch, each with the time that was spent waiting for it."""
        if self.state.position >= len(self.clips["train"]):
            return
        steps = stream.epoch(self.state.epoch, self.state.position)
        while True:
            began = time.monotonic()
            with self.watch.phase("reading clips"):
                step = next(steps, None)
            if step is None:
                return
            yield step, Tally(waited=time.monotonic() - began, took=-began)

    def _take(self, step: Step, tally: Tally) -> None:
        """One optimizer step: forward and backward of each micro-batch, then the update."""
        config, state, engine = self.config, self.state, self.engine
        factor = warmup_cosine(state.step, config.train.warmup_steps, config.train.epochs * self.steps_per_epoch)
        set_learning_rate(engine, config.train.lr * factor)
        # Our randomness is keyed by sample; whatever a library still draws from the global generator resumes with this.
        torch.manual_seed(hash((config.seed, state.step, self.world.rank)) & (2**63 - 1))
        # DeepSpeed averages over ranks and micro-batches; losses are sums, so that this gives the mean over the step's
        # planned samples, however they are spread.
        scale = self.world.size * len(step.micro_batches) / step.planned
        skipped = engine.skipped_steps
        for micro_batch in step.micro_batches:
            batch = self.task.collate(micro_batch, state.epoch).to(self.world.device)
            output = engine(batch)
            with self.watch.phase(WAITING):
                engine.backward(output["loss"] * scale)
                engine.step()
            self.watch.alive(state.step)
            for name, value in {"loss": output["loss"], **output["terms"]}.items():
                tally.terms[name] = tally.terms.get(name, 0.0) + value.detach()
            tally.clips += [clip for clip in micro_batch if clip.index >= 0]
        tally.ids = [clip.id for clip in tally.clips]
        state.step += 1
        state.position = step.position
        tally.took += time.monotonic()
        self.watch.alive(state.step)
        self.log.samples(state.step, state.epoch, tally.ids)
        if engine.skipped_steps > skipped:
            self._refused_update(step, tally)

    def _keep_in_step(self, tally: Tally) -> bool:
        """Tell the other ranks what concerns them; returns whether to stop. One small message a step, beside the GPU."""
        faults = [clip.fault for clip in tally.clips if clip.fault is not None]
        self.log.faults(self.state.step, self.state.epoch, "train", faults)
        with self.watch.phase(WAITING):
            stop, bad, writing = self.world.agree(
                [self.stop.requested is not None, len(faults), self.saver.writing], op="sum"
            )
        self.state.bad += round(bad)
        allowed = self.config.data.max_bad_fraction * len(self.clips["train"])
        if self.state.bad > allowed:
            lines = [f"{fault.id} ({fault.cause})" for rank in self.world.collect(faults) for fault in rank]
            raise Stopped(
                f"{self.state.bad} of {len(self.clips['train'])} clips could not be read in epoch {self.state.epoch + 1}, "
                f"more than data.max_bad_fraction={self.config.data.max_bad_fraction:g} allows; the last: "
                f"{', '.join(lines)}; all of them: {self.run / folder.BAD_SAMPLES}"
            )
        if self.saver.pending and not writing:
            self._report(self.saver.finish())
        return stop > 0

    def _log(self, step: Step, tally: Tally) -> None:
        """The numbers of this step, over all ranks. The only place where the host waits for the GPU's results."""
        names = list(tally.terms)
        sums = self.world.agree([float(tally.terms[name]) for name in names], op="sum")
        values = {name: value / step.planned for name, value in zip(names, sums)}
        timings = self.world.collect((tally.waited, tally.took))
        waited, took = (max(column) for column in zip(*timings))
        norm = self.engine.get_global_grad_norm()
        facts = {
            **values,
            "lr": self.engine.optimizer.param_groups[0]["lr"],
            "grad_norm": float(norm) if norm is not None else None,
            "samples_per_second": step.planned / took,
            "data_wait": waited / took,
            "bad_samples": self.state.bad,
            "skipped_steps": self.state.skipped,
            "save_stall": self.saver.stall,
        }
        self.log.scalars(self.state.step, self.state.epoch, "train", facts)
        if self.world.first:
            self.progress.line(self.state.step, self.state.epoch, self.config.train.epochs, facts)
        self._watch_loss(values["loss"], tally)

    def _watch_loss(self, loss: float, tally: Tally) -> None:
        if len(self.recent) >= 10 and loss > SPIKE * statistics.median(self.recent):
            ids = [sample for rank in self.world.collect(tally.ids) for sample in rank]
            self.log.scalars(self.state.step, self.state.epoch, "train", {"event": "loss spike", "ids": ids})
        self.recent = [*self.recent[-49:], loss]

    def _refused_update(self, step: Step, tally: Tally) -> None:
        """DeepSpeed refused an update with non-finite gradients, on all ranks alike; say whose, and stop or go on."""
        self.state.skipped += 1
        sums = {name: float(value) for name, value in tally.terms.items()}
        found = self.world.collect(([n for n, v in sums.items() if v != v or abs(v) == float("inf")], tally.ids))
        terms = sorted({name for names, _ in found for name in names}) or ["gradients only"]
        ids = [sample for names, samples in found for sample in samples if names or terms == ["gradients only"]]
        line = f"step {self.state.step} has non-finite numbers in {', '.join(terms)}; its samples: {', '.join(ids)}"
        self.log.scalars(self.state.step, self.state.epoch, "train", {"event": "skipped step", "line": line})
        scaling = getattr(self.engine.optimizer, "loss_scaler", None) is not None and self.engine.fp16_enabled()
        if self.state.skipped > self.config.train.skip_bad_steps and not scaling:
            raise Stopped(f"{line}; no update was made. train.skip_bad_steps allows so many steps to be skipped")
        self._report(f"skipped: {line}")

    # -- saving and leaving -----------------------------------------------------------------------------------------

    def _save(self) -> None:
        self.state.seconds = time.monotonic() - self.began
        self._report(self.saver.begin(asdict(self.state)))

    def _leave(self) -> int:
        """A signal asked to stop: save what is new, and go."""
        self._report(self.saver.finish())
        if self.saver.saved_step != self.state.step:
            self._save()
            failure = self.saver.finish()
            if failure is not None:
                raise Stopped(f"asked to stop, but {failure}")
        why = ", ".join(sorted({name for name in self.world.collect(self.stop.requested) if name}))
        self._report(f"stopped by {why} after step {self.state.step}, saved; continue with --resume auto")
        return PREEMPTED

    def _report(self, line: str | None) -> None:
        if line is not None and self.world.first:
            print(line, file=sys.stderr, flush=True)

    # -- evaluation and the end -------------------------------------------------------------------------------------

    def _evaluate(self, split: str) -> Evaluation:
        if split not in self.clips:
            self.clips[split] = ClipSet(self.config.data.folders(), split)
        if split not in self.streams:  # kept open: starting decoders takes seconds
            stream = open_stream(self.clips[split], self.task, self.config, self.world)
            self.streams[split] = self.open.enter_context(stream)
        return evaluate(
            self.engine,
            self.task,
            self.streams[split],
            self.world,
            should_stop=self._should_stop,
            limit=DEBUG_CLIPS if self.debug else None,
        )

    def _should_stop(self) -> bool:
        """Whether a signal came to any rank; asked by all of them in step."""
        self.watch.alive(self.state.step)
        with self.watch.phase(WAITING):
            return self.world.agree([self.stop.requested is not None])[0] > 0

    def _validate(self) -> None:
        """Metrics of the validation split; keeps the student if it is the best so far."""
        state = self.state
        found = self._evaluate("valid")
        self.log.faults(state.step, state.epoch, "valid", found.faults)
        self.log.scalars(state.step, state.epoch, "valid", found.metrics)
        self.log.histograms(state.step, "valid", found.table)
        score = self.task.score(found.metrics)
        self._report(f"epoch {state.epoch + 1}  valid {self.task.score_name} {score:.4f}")
        if state.best is None or score < state.best[self.task.score_name]:
            state.best = {"epoch": state.epoch, "step": state.step, self.task.score_name: score}
            self._keep_student(found)

    def _keep_student(self, found: Evaluation) -> None:
        save_trained(self.engine, self.run / "best.safetensors", self.world)
        facts = {
            "dataset": self.clips["train"].dataset,
            "max_tokens": self.config.student.max_tokens,
            "seed": self.config.seed,
            "variant": self.config.objective.variant if self.config.teacher is not None else "student alone",
            "base": self.config.student.model,
            "epoch": self.state.epoch + 1,
            "step": self.state.step,
            "valid": found.metrics,
        }
        with gathered(self.engine.module.parameters()):
            if self.world.first:
                with folder.replaced(self.run / "student") as scratch:
                    self.task.save_student(scratch, facts)
                    folder.write_json(scratch / "videoadviser.json", facts)

    def _finish(self) -> int:
        """The run's last save, then the best student on every split."""
        if self.saver.saved_step != self.state.step:
            self._save()
        if failure := self.saver.finish():
            raise Stopped(failure)
        try:
            if self.state.best is None or self.state.position:
                self._validate()
            load_trained(self.engine, self.run / "best.safetensors", self.world)
            found = {split: self._evaluate(split) for split in ("valid", "test")}
        except Interrupted:
            return self._leave()
        if self.world.first:
            for split, evaluation in found.items():
                write_predictions(self.run / "predictions" / f"{split}.csv", evaluation, self.clips[split])
            for split, evaluation in found.items():
                self.log.scalars(self.state.step, self.state.epoch, f"best_{split}", evaluation.metrics)
            self.state.seconds = time.monotonic() - self.began
            write_result(self.run, self.config, self.state, self.task, found, self.clips)
        self.world.barrier()
        return FINISHED

    # -- the folder -------------------------------------------------------------------------------------------------

    def _prepare_folder(self, stage: int) -> checkpoints.Checkpoint | None:
        """Decide on rank 0 where to start from, tell all ranks; raises on all of them."""
        found: checkpoints.Checkpoint | None = None
        refused: str | None = None
        if self.world.first:
            try:
                found = self._find_checkpoint(stage)
            except (ValueError, OSError) as error:
                refused = str(error)
        found, refused = self.world.broadcast((found, refused))
        if refused is not None:
            raise ValueError(refused)
        return found

    def _find_checkpoint(self, stage: int) -> checkpoints.Checkpoint | None:
        own = self.run / "checkpoints"
        own.mkdir(parents=True, exist_ok=True)
        if self.resume not in ("auto", "never"):
            found: checkpoints.Checkpoint | None = checkpoints.read(Path(self.resume))
        else:
            checkpoints.clean(own)
            found, torn = checkpoints.newest(own)
            for line in torn:
                self._report(line)
            if self.resume == "never" and found is not None:
                raise ValueError(
                    f"--resume never: {self.run} holds a run at step {found.step}; "
                    "give another --run, remove that folder, or go on with --resume auto"
                )
        if found is None:
            folder.cut_back(self.run, 0)
            return None
        if (self.run / folder.CONFIG).is_file() and (differing := folder.differences(self.run, self.config)):
            raise ValueError(
                f"{self.run}: expected the configuration the run was started with, found {'; '.join(differing)}; "
                "change it back, or give another --run"
            )
        if found.state["data"] != folder.data_fingerprint(self.clips["train"]):
            raise ValueError(
                f"{self.run}: expected the training data it was started with, found other shards in "
                f"{', '.join(self.config.data.folders())}; point data.shards to the first ones, or give another --run"
            )
        if found.zero_stage != stage:
            raise ValueError(
                f"{found.path}: was saved with ZeRO stage {found.zero_stage}, {self.config.deepspeed} asks for {stage}; "
                "DeepSpeed cannot convert between stages: resume with the first one"
            )
        folder.cut_back(self.run, found.step)
        self._report(f"resuming from {found.path}, saved by {found.world_size} process(es)")
        return found

    def _already_finished(self) -> bool:
        result = self.run / folder.RESULT
        finished = self.world.broadcast(self.world.first and result.is_file() and _steps_of(result) >= self.total)
        if finished:
            self._report(f"{self.run} is finished: {result}")
        return bool(finished)

    def _record(self) -> None:
        """Write down what runs, and say the batch arithmetic in words."""
        config, world = self.config, self.world
        devices = world.collect(str(world.device))
        if world.first:
            folder.record(self.run, config, world.size, devices)
            micro, accumulation = config.train.micro(world.size), config.train.accumulation(world.size)
            self._report(
                f"{len(self.clips['train'])} clips, {self.steps_per_epoch} steps of {config.train.batch_size} clips an "
                f"epoch = {world.size} process(es) x {micro} clips x {accumulation} micro-batch(es); {self.total} steps"
            )
        world.barrier()


def _steps_of(result: Path) -> int:
    try:
        return int(json.loads(result.read_text())["steps"])
    except (ValueError, KeyError):
        return -1
