"""Progress on standard error: a bar on a terminal, else a line now and then, so that a log stays short and plain."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

EVERY = 30.0
"""Seconds between lines where standard error is no terminal: a pipe, a file, the log of a Slurm job."""
DELAY = 2.0
"""Seconds before a bar appears: what is quick needs none."""


class Progress:
    """Counts what is done; what takes less than `EVERY` is silent outside of terminals."""

    def __init__(self, what: str, total: int, unit: str, *, done: int = 0, show: bool = True) -> None:
        """Begin.

        Args:
            what: the work in a word, such as packing.
            total: how many there are; 0 when nobody knows.
            unit: of what, in the plural; bytes are shown as MB.
            done: of these, what an earlier start did.
            show: False is silent everywhere.
        """
        self._what, self._total, self._unit, self._show = what, total, unit, show
        self._done = self._before = done
        self._note = ""
        self._start = self._said = time.monotonic()
        self._bar: Any = None
        if show and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=what,
                total=total or None,
                initial=done,
                unit="B" if unit == "bytes" else f" {unit}",
                unit_scale=unit == "bytes",
                mininterval=0.5,
                delay=DELAY,
                dynamic_ncols=True,
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._show and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """What is shown behind the numbers from now on."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def say(self, line: str) -> None:
        """A line of its own, which does not tear the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        elif self._show:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """The end; a bar stays as it is."""
        if self._bar is not None:
            self._bar.close()

    def _line(self) -> str:
        rate = (self._done - self._before) / max(time.monotonic() - self._start, 1e-9)
        scale, unit = (1e6, "MB") if self._unit == "bytes" else (1, self._unit)
        of = f" of {self._total / scale:,.0f}" if self._total else ""
        parts = [f"{self._done / scale:,.0f}{of} {unit}", f"{rate / scale:,.1f}/s"]
        if self._total:
            minutes, seconds = divmod(round((self._total - self._done) / rate if rate else 0.0), 60)
            parts.append(f"{minutes // 60}:{minutes % 60:02}:{seconds:02} to go")
        if self._note:
            parts.append(self._note)
        return f"{self._what}: {', '.join(parts)}"
