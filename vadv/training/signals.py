"""Signals become a request to stop that the loop honours between two steps."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any

INTERRUPTED = 130
"""Exit code of a second Ctrl-C."""


class StopSignals:
    """While active, SIGTERM, SIGUSR1, SIGUSR2 and SIGINT set `requested` in place of what they would do.

    A second SIGINT leaves at once: a person who presses Ctrl-C twice means it. Handlers only set a flag; Python runs
    them between two bytecodes of the main thread, so a collective or a decoder that is under way ends first.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)

    def __init__(self) -> None:
        self.requested: str | None = None
        self._interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in self.SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                os._exit(INTERRUPTED)
        self.requested = signal.Signals(number).name
