"""Our training step against a bare DeepSpeed loop and a bare PyTorch loop, and where its time goes.

All three train modules of the same shapes on the same clips in memory, in the same process, one step each in turn, so
that whatever else the machine does meets them alike; medians are compared. The bare loops get finished tensors; our
step starts from decoded clips: it tokenises, collates, counts, keeps ranks in step, watches, logs.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from vadv.bench.made import alone, config_of, made_clips
from vadv.bench.table import Row

if TYPE_CHECKING:
    from shards.clip import Clip
    from shards.stream import Step
    from vadv.config import Config

OURS, DEEPSPEED, TORCH = "our step", "bare DeepSpeed loop", "bare PyTorch loop"
NO_DATA: Any = SimpleNamespace(manifests=[], split="train")
"""In place of a ClipSet, for clips that come from nowhere."""
PARTS = (
    "tokenise, collate, count",
    "host to device",
    "frozen CLIP",
    "CCT, MIT, prompting, logits",
    "student",
    "backward",
    "optimizer",
    "agreement of ranks",
    "logging (one step in log.every)",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--clip", default="ViT-B-32", help="open_clip model of the teacher (default: %(default)s)")
    parser.add_argument("--student", default="roberta-base", help="student's encoder (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=2, help="clips per step (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="steps of each loop, after two (default: %(default)s)")
    parser.add_argument("--deepspeed", default="configs/deepspeed/zero1.json", help="preset (default: %(default)s)")


def run(options: argparse.Namespace) -> list[Row]:
    """Measure both."""
    alone()
    changes = {"train.batch_size": options.clips, "deepspeed": options.deepspeed}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(config_of(changes, options.clip, options.student), Path(folder))
        try:
            return [*_loops(bench, options.steps), *_parts(bench, max(3, options.steps // 4))]
        finally:
            bench.close()


class Bench:
    """One model under our trainer and DeepSpeed, and one under PyTorch alone.

    Args:
        folder: for what is logged.
        plain: whether the second model is wanted.
    """

    def __init__(self, config: Config, folder: Path, plain: bool = True) -> None:
        import torch

        from vadv.features.cache import open_cache
        from vadv.tasks.sentiment import Sentiment
        from vadv.training.distributed import join
        from vadv.training.engine import build_engine, deepspeed_settings, parameter_groups, precision
        from vadv.training.flops import Work
        from vadv.training.logging import RunLog
        from vadv.training.peaks import peak_of
        from vadv.training.state import State
        from vadv.training.stepping import Stepper
        from vadv.training.watchdog import Watchdog

        self.config, self.world = config, join(600)
        clips = self.clips = made_clips(config, config.train.batch_size)
        self.task = Sentiment(config, len(clips))
        self.work = Work(self.task.module)
        number_format = precision(deepspeed_settings(config, 1))
        data_type = getattr(torch, number_format)
        if plain:
            self.plain = Sentiment(config, len(clips)).module.to(self.world.device, data_type)
            self.optimizer = torch.optim.AdamW(parameter_groups(self.plain, config), lr=1e-6, fused=True)
        self.cache = open_cache(self.task.module, config, data_type, self.world.device)
        self.engine = build_engine(self.task.module, config, self.world)
        self.log = RunLog(folder, 0, samples=False, step=0)
        self.watch = Watchdog(folder, 0, 1, 600)
        self.stepper = Stepper(
            engine=self.engine,
            task=self.task,
            config=config,
            world=self.world,
            state=State(),
            log=self.log,
            watch=self.watch,
            run=folder,
            clips=len(clips),
            schedule_steps=10**6,
            work=self.work,
            peak=peak_of(self.world.device, number_format),
            features=self.cache.of(NO_DATA, config.seed, config.data.views) if self.cache is not None else None,
        )
        self.batch = self.task.collate(clips, 0).to(self.world.device)

    def step(self, clips: list[Clip]) -> Step:
        """A step of these clips, as a stream gives it."""
        from shards.stream import Step

        return Step(index=0, planned=len(clips), position=len(clips), micro_batches=[clips])

    def ours(self, clips: list[Clip] | None = None) -> None:
        """As `vadv.training.run` does it, with one step in `log.every` logged."""
        from vadv.training.stepping import Tally

        step, tally = self.step(clips or self.clips), Tally(took=-time.monotonic())
        batches = [self.task.collate(micro_batch, 0).to(self.world.device) for micro_batch in step.micro_batches]
        self.stepper.take(step, batches, tally)
        tally.took += time.monotonic()
        self.stepper.keep_in_step(tally, stop=False, writing=False)
        if self.stepper.state.step % self.config.log.every == 0:
            self.log.scalars(self.stepper.state.step, 0, "train", self.stepper.numbers(step, tally))

    def deepspeed(self) -> None:
        """DeepSpeed's own three lines."""
        self.engine.backward(self.engine(self.batch)["loss"])
        self.engine.step()

    def torch(self) -> None:
        """PyTorch's own four."""
        self.plain(self.batch)["loss"].backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def wait(self) -> None:
        """Until a GPU has done what it was told."""
        import torch

        if self.world.device.type == "cuda":
            torch.cuda.synchronize()

    def close(self) -> None:
        """End what runs beside."""
        self.watch.close()
        self.log.close()
        if self.cache is not None:
            self.cache.close()
        self.world.leave()


def _loops(bench: Bench, steps: int) -> list[Row]:
    ways: dict[str, Callable[[], None]] = {OURS: bench.ours, DEEPSPEED: bench.deepspeed, TORCH: bench.torch}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    # In every order in turn: a step finds the memory and the caches as the one before has left them.
    orders = itertools.cycle(itertools.permutations(ways))
    for number in range(steps + 2):
        for name in next(orders):
            began, used = time.perf_counter(), time.process_time()
            ways[name]()
            bench.wait()
            if number >= 2:
                wall[name].append(time.perf_counter() - began)
                busy[name].append(time.process_time() - used)
    rows = [
        Row(
            f"step: {name}",
            statistics.median(wall[name]),
            "s",
            more={"processor": _round(statistics.median(busy[name]))},
        )
        for name in ways
    ]
    for peer in (DEEPSPEED, TORCH):
        # Paired: each of our steps against the peer's of the same round.
        over = statistics.median(a / b for a, b in zip(wall[OURS], wall[peer])) - 1
        work = statistics.median(a / b for a, b in zip(busy[OURS], busy[peer])) - 1
        rows.append(Row(f"step: ours over the {peer}", 100 * over, "%", more={"processor": _round(100 * work)}))
    return rows


def _parts(bench: Bench, steps: int) -> list[Row]:
    """Seconds of each part of a step; a GPU is waited for after each, so that their sum is more than a step takes."""
    from vadv.training.stepping import Tally

    clock = Clock(bench.wait)
    model, stepper = bench.task.module, bench.stepper
    modules = {"frozen CLIP": model.teacher.clip, "teacher": model.teacher, "student": model.student}
    handles = [handle for name, module in modules.items() for handle in clock.watch(name, module)]
    for _ in range(steps):
        tally = Tally()
        with clock.of("step"):
            with clock.of("tokenise, collate, count"):
                batch = bench.task.collate(bench.clips, 0)
                stepper.count(batch, bench.clips, tally)
            with clock.of("host to device"):
                batch = batch.to(bench.world.device)
            output = bench.engine(batch)
            with clock.of("backward"):
                bench.engine.backward(output["loss"])
            with clock.of("optimizer"):
                bench.engine.step()
            tally.terms = {"loss": output["loss"].detach()}
            with clock.of("agreement of ranks"):
                stepper.keep_in_step(tally, stop=False, writing=False)
        tally.took = 1.0
        with clock.of("logging (one step in log.every)"):
            bench.log.scalars(stepper.state.step, 0, "train", stepper.numbers(bench.step(bench.clips), tally))
    for handle in handles:
        handle.remove()
    clock.seconds["CCT, MIT, prompting, logits"] = clock.seconds["teacher"] - clock.seconds["frozen CLIP"]
    whole, work = clock.seconds["step"], bench.work
    rows = [Row(f"part: {n}", clock.seconds[n] / steps, "s", clock.seconds[n] / whole, "step") for n in PARTS]
    texts = len(bench.batch.weight)
    for row, flops in (
        (rows[2], work.frozen * texts),
        (rows[3], work.teacher * texts),
        (rows[4], work.student(texts, *bench.batch.text.ids.shape)),  # type: ignore[union-attr]
    ):
        row.more["GFLOP/s"] = _round(flops.forward / row.value / 1e9)
    return rows


class Clock:
    """Sums of seconds by name."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._wait = wait

    def add(self, name: str, sign: int) -> None:
        """The beginning (-1) or the end (1) of a part."""
        self._wait()
        self.seconds[name] = self.seconds.get(name, 0.0) + sign * time.perf_counter()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """A part in a block."""
        self.add(name, -1)
        yield
        self.add(name, 1)

    def watch(self, name: str, module: Any) -> Iterator[Any]:
        """A part in a module's forward pass; the handles that end it."""
        yield module.register_forward_pre_hook(lambda *_: self.add(name, -1))
        yield module.register_forward_hook(lambda *_: self.add(name, 1))


def _round(value: float) -> float:
    return float(f"{value:.3g}")
