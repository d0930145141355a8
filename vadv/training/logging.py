"""What a run writes down while it goes: metrics.jsonl, TensorBoard, the samples of each step, a line for the person."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from shards.clip import Fault
from vadv.training.board import tag
from vadv.training.folder import BAD_SAMPLES, METRICS


class RunLog:
    """Writers of one rank; what is written once is written by rank 0.

    Args:
        run: the run folder.
        rank: this rank.
        samples: whether to write samples-RANK.jsonl.
        step: optimizer step the run starts from; TensorBoard drops what an earlier attempt logged after it.
    """

    def __init__(self, run: Path, rank: int, samples: bool, step: int) -> None:
        self.run, self.rank, self.step = run, rank, step
        self._samples: TextIO | None = (run / f"samples-{rank}.jsonl").open("a") if samples else None
        self._metrics: TextIO | None = (run / METRICS).open("a") if rank == 0 else None

    @functools.cached_property
    def _board(self) -> Any:
        """TensorBoard's writer on rank 0, else None; made when first wanted, for the first step not to wait for it."""
        if self.rank != 0:
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.run / "tensorboard"), purge_step=self.step + 1, flush_secs=20)

    def scalars(self, step: int, epoch: int, split: str, values: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl, and the numbers in it to TensorBoard, in sections.

        The best student's metrics are one point each and no curve: HPARAMS shows them.
        """
        if self._metrics is None:
            return
        self._metrics.write(json.dumps({"step": step, "epoch": epoch, "split": split, **values}) + "\n")
        self._metrics.flush()
        for name, value in _numbers(values):
            if not split.startswith("best_") and not name.endswith("/n"):
                self._board.add_scalar(tag(split, name), value, step)

    def histograms(self, step: int, split: str, table: Mapping[str, np.ndarray]) -> None:
        """The distributions of labels and logits side by side (Fig. 5)."""
        if self._board is not None:
            for name, values in table.items():
                if name != "index" and len(values) and np.isfinite(values).all():
                    self._board.add_histogram(f"{split}_logits/{name}", values, step)

    def hyperparameters(self, settings: Mapping[str, Any], results: Mapping[str, float]) -> None:
        """A row of TensorBoard's HPARAMS tab, in this run's own folder."""
        if self._board is not None:
            self._board.add_hparams(dict(settings), dict(results), run_name=".")

    def text(self, step: int, name: str, lines: Sequence[str]) -> None:
        """Lines of Markdown, such as a table of texts with their predictions; nothing where there are none."""
        if self._board is not None and lines:
            self._board.add_text(name, "\n".join(lines), step)

    def samples(self, step: int, epoch: int, ids: list[str]) -> None:
        """The ids of this rank's samples in one optimizer step, in order."""
        if self._samples is not None:
            self._samples.write(json.dumps({"epoch": epoch, "step": step, "split": "train", "ids": ids}) + "\n")
            self._samples.flush()

    def faults(self, step: int, epoch: int, split: str, faults: Iterable[Fault]) -> None:
        """Clips that could not be read, of this rank; a line is short enough to be appended by several ranks."""
        lines = [{**asdict(fault), "split": split, "epoch": epoch, "step": step, "rank": self.rank} for fault in faults]
        if lines:
            with (self.run / BAD_SAMPLES).open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def close(self) -> None:
        """Flush and close everything."""
        for file in (self._samples, self._metrics):
            if file is not None:
                file.close()
        if self.__dict__.get("_board") is not None:
            self._board.close()


class Progress:
    """The line that a person watches, on rank 0's standard error."""

    def __init__(self, total_steps: int, done: int) -> None:
        self.total, self.started, self.done = total_steps, time.monotonic(), done

    def line(self, step: int, epoch: int, epochs: int, values: Mapping[str, float]) -> None:
        """Step, loss, rate, share of time spent waiting for data, time to go."""
        took = time.monotonic() - self.started
        left = took / max(1, step - self.done) * (self.total - step)
        print(
            f"epoch {epoch + 1}/{epochs}  step {step}/{self.total}  loss {values['loss']:.4g}  "
            f"{values['samples_per_second']:.1f} clips/s  data wait {values['data_wait']:.0%}  eta {duration(left)}",
            file=sys.stderr,
            flush=True,
        )


def duration(seconds: float) -> str:
    """`1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield prefix + name, value
