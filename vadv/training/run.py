"""A run, top to bottom: join the ranks, build, resume, step, evaluate, save, stop, finish."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from shards.stream import ClipStream
from vadv import tasks
from vadv.clips import coarser, open_clips
from vadv.config import Config
from vadv.features.cache import SplitFeatures, open_cache
from vadv.training import checkpoints, folder
from vadv.training.best import Judge
from vadv.training.distributed import World, is_lost_peer, join
from vadv.training.engine import build_engine, deepspeed_settings, precision, zero_stage
from vadv.training.errors import Stopped
from vadv.training.evaluation import Interrupted
from vadv.training.feed import Fed, feed
from vadv.training.flops import Work
from vadv.training.logging import Progress, RunLog
from vadv.training.peaks import peak_of
from vadv.training.result import count_parameters
from vadv.training.resume import find_checkpoint, finished_steps
from vadv.training.saving import Saver, load
from vadv.training.signals import StopSignals
from vadv.training.state import State
from vadv.training.stepping import Stepper, Tally
from vadv.training.watchdog import WAITING, Watchdog

FINISHED, STOPPED, PREEMPTED = 0, 3, 75
"""Exit codes of a run (docs/reliability.md)."""
DEBUG_CLIPS = 8
"""Clips per split that debug mode evaluates."""


class Run:
    """One attempt at a run, by one rank. See `vadv.training.train`."""

    def __init__(self, config: Config, run: Path, resume: str, debug: bool, stop: StopSignals) -> None:
        self.config, self.run, self.resume, self.debug, self.stop = config, run, resume, debug, stop

    def train(self) -> int:
        """Train to the end, or until something ends it; returns the exit code."""
        config = self.config
        # The watchdog knows better than a collective's timeout who is to blame, so it comes first.
        self.world = world = join(2 * config.train.stall_timeout)
        # Wrong arithmetic and wrong shards are told before anything is loaded, and leave no run folder.
        settings, kind = deepspeed_settings(config, world.size), tasks.kind(config).shards
        self.clips = {split: open_clips(config.data, split, kind) for split in ("train", "valid")}
        self.watch = Watchdog(self.run, world.rank, world.size, config.train.stall_timeout)
        try:
            code = self._train(world, settings)
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

    def _train(self, world: World, settings: dict[str, Any]) -> int:
        config, clips = self.config, len(self.clips["train"])
        per_epoch = -(-clips // config.train.batch_size)
        self.total = min(config.train.epochs * per_epoch, config.train.max_steps or sys.maxsize)
        self.state = State(data=folder.data_fingerprint(self.clips["train"]))
        checkpoint = self._checkpoint(zero_stage(settings))
        if checkpoint is not None and world.broadcast(finished_steps(self.run)) >= self.total:
            self._say(f"{self.run} is finished: {self.run / folder.RESULT}")
            return FINISHED

        self.task = tasks.build(config, clips)
        if self.task.video:
            self._say(coarser(self.clips["train"], config.data))
        elastic = checkpoint is not None and checkpoint.world_size != world.size and checkpoint.zero_stage > 0
        parameters, work = count_parameters(self.task.module), Work(self.task.module)
        self.cache = open_cache(self.task.module, config, getattr(torch, precision(settings)), world.device)
        with contextlib.ExitStack() as opened, torch.autograd.set_detect_anomaly(self.debug):
            if self.cache is not None:
                opened.callback(self.cache.close)
            features = self.cache.of(self.clips["train"], config.seed, config.data.views) if self.cache else None
            self.stream = opened.enter_context(self._stream(features))  # decoders start while the engine is built
            self.engine = build_engine(self.task.module, config, world, universal=elastic)
            if checkpoint is not None:
                load(self.engine, checkpoint, world, universal=elastic)
                self.state = State(**checkpoint.state)
            self._record(per_epoch)
            self.saver = Saver(
                self.engine, self.run / "checkpoints", world, config.train.keep_checkpoints, zero_stage(settings)
            )
            self.saver.saved_step = checkpoint.step if checkpoint is not None else None
            self.log = RunLog(self.run, world.rank, config.log.samples, self.state.step)
            opened.callback(self.log.close)
            self.began = time.monotonic() - self.state.seconds
            self.stepper = Stepper(
                engine=self.engine,
                task=self.task,
                config=config,
                world=world,
                state=self.state,
                log=self.log,
                watch=self.watch,
                run=self.run,
                clips=clips,
                schedule_steps=config.train.epochs * per_epoch,
                work=work,
                peak=peak_of(world.device, precision(settings)),
                features=features,
            )
            self.judge = Judge(
                engine=self.engine,
                task=self.task,
                config=config,
                world=world,
                state=self.state,
                log=self.log,
                run=self.run,
                clips=self.clips,
                should_stop=self._should_stop,
                limit=DEBUG_CLIPS if self.debug else None,
                open=opened,
                parameters=parameters,
                cache=self.cache,
            )
            return self._loop()

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _loop(self) -> int:
        state, train, clips = self.state, self.config.train, len(self.clips["train"])
        progress = Progress(self.total, state.step)
        with self.stream as stream:  # its decoders end before the test split's begin
            while state.epoch < train.epochs and state.step < self.total:
                for (step, batches), tally in self._steps(stream):
                    self.stepper.take(step, batches, tally)
                    tally.took += time.monotonic()
                    stopping, writing = self.stepper.keep_in_step(
                        tally, stop=self.stop.requested is not None, writing=self.saver.writing
                    )
                    if self.saver.pending and not writing:
                        self._say(self.saver.finish())
                    if state.step % self.config.log.every == 0 or state.step == self.total:
                        numbers = {**self.stepper.numbers(step, tally), "save_stall": self.saver.stall}
                        self.log.scalars(state.step, state.epoch, "train", numbers)
                        if self.world.first:
                            progress.line(state.step, state.epoch, train.epochs, numbers)
                    if stopping:
                        return self._leave()
                    if train.checkpoint_every and state.step % train.checkpoint_every == 0:
                        self._save()
                    if state.step >= self.total:
                        break
                if state.position < clips:
                    break  # max_steps came in the middle of an epoch
                if (state.epoch + 1) % train.evaluate_every == 0 or state.epoch + 1 == train.epochs:
                    try:
                        self.judge.validate()
                    except Interrupted:
                        return self._leave()
                state.epoch, state.position, state.bad = state.epoch + 1, 0, 0
                if not train.checkpoint_every:
                    self._save()
        return self._finish()

    def _stream(self, features: SplitFeatures | None) -> ClipStream:
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
            features=features,
        )

    def _steps(self, stream: ClipStream) -> Iterator[tuple[Fed, Tally]]:
        """The steps that are left of the current epoch, each with the time that was spent waiting for it."""
        if self.state.position >= len(self.clips["train"]):
            return
        steps = stream.epoch(self.state.epoch, self.state.position)
        with contextlib.closing(feed(steps, self.task, self.state.epoch, self.world.device)) as ahead:
            while True:
                began = time.monotonic()
                with self.watch.phase("reading clips"):
                    fed = next(ahead, None)
                if fed is None:
                    return
                yield fed, Tally(waited=time.monotonic() - began, took=-began)

    def _should_stop(self) -> bool:
        """Whether a signal came to any rank; asked by all of them in step."""
        self.watch.alive(self.state.step)
        with self.watch.phase(WAITING):
            return self.world.agree([self.stop.requested is not None])[0] > 0

    # -- saving, leaving, finishing -----------------------------------------------------------------------------------

    def _save(self) -> None:
        self.state.seconds = time.monotonic() - self.began
        self._say(self.saver.begin(asdict(self.state)))

    def _leave(self) -> int:
        """A signal asked to stop: save what is new, and go."""
        self._say(self.saver.finish())
        if self.saver.saved_step != self.state.step:
            self._save()
            if failure := self.saver.finish():
                raise Stopped(f"asked to stop, but {failure}")
        why = ", ".join(sorted({name for name in self.world.collect(self.stop.requested) if name}))
        self._say(f"stopped by {why} after step {self.state.step}, saved; continue with --resume auto")
        return PREEMPTED

    def _finish(self) -> int:
        """The run's last save, then the best student on every split."""
        if self.saver.saved_step != self.state.step:
            self._save()
        if failure := self.saver.finish():
            raise Stopped(failure)
        try:
            if self.state.best is None or self.state.position:
                self.judge.validate()
            self.state.seconds = time.monotonic() - self.began
            self.judge.finish()
        except Interrupted:
            return self._leave()
        return FINISHED

    # -- the folder ---------------------------------------------------------------------------------------------------

    def _checkpoint(self, stage: int) -> checkpoints.Checkpoint | None:
        """Decide on rank 0 where to start from, tell all ranks; what is wrong is raised on all of them."""
        answer: tuple[checkpoints.Checkpoint | None, list[str]] | str = (None, [])
        if self.world.first:
            try:
                answer = find_checkpoint(self.run, self.config, self.resume, self.state.data, stage)
            except (ValueError, OSError) as error:
                answer = str(error)
        answer = self.world.broadcast(answer)
        if isinstance(answer, str):
            raise ValueError(answer)
        checkpoint, lines = answer
        for line in lines:
            self._say(line)
        return checkpoint

    def _record(self, per_epoch: int) -> None:
        """Write down what runs, and say the batch arithmetic in words."""
        train, world = self.config.train, self.world
        devices = world.collect(str(world.device))
        if world.first:
            folder.cut_back(self.run, self.state.step)
            folder.record(self.run, self.config, world.size, devices)
        self._say(
            f"{len(self.clips['train'])} clips, {per_epoch} steps of {train.batch_size} clips an epoch = {world.size} "
            f"process(es) x {train.micro(world.size)} clips x {train.accumulation(world.size)} micro-batch(es); "
            f"{self.total} steps"
        )
        world.barrier()

    def _say(self, line: str | None) -> None:
        if line is not None and self.world.first:
            print(line, file=sys.stderr, flush=True)
