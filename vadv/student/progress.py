"""Progress on standard error: a bar on a terminal, else a line now and then, so that logs stay short."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

EVERY = 30.0
"""Seconds between lines when standard error is not a terminal."""
DELAY = 2.0
"""Seconds before a bar appears: what is quick needs none."""


class Progress:
    """Counts texts; the share done comes from the bytes of the file that were read."""

    def __init__(self, size: int, position: Callable[[], int]) -> None:
        """Watch a file.

        Args:
            size: its bytes; 0 when unknown.
            position: bytes read so far.
        """
        self._size, self._position = size, position
        self._texts, self._start = 0, time.monotonic()
        self._said = self._start
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._size or None, unit="B", unit_scale=True, delay=DELAY, leave=False, file=sys.stderr
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, texts: int) -> None:
        """So many more are done."""
        self._texts += texts
        now = time.monotonic()
        rate = self._texts / max(now - self._start, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._texts:,} texts, {rate:,.0f}/s", refresh=False)
            self._bar.update(self._position() - self._bar.n)
        elif now - self._said > EVERY:
            self._said = now
            share = f", {self._position() / self._size:.0%} of the file read" if self._size else ""
            print(f"{self._texts:,} texts, {rate:,.0f}/s{share}", file=sys.stderr, flush=True)

    def say(self, line: str | None) -> None:
        """A line that does not tear the bar."""
        if line is None:
            return
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)
