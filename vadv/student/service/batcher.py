"""Requests that wait at the same time share a batch.

No request waits for company: while one batch is computed, the next ones gather. So a lone request has the latency of
one text, and under load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vadv.student.predictor import Predictor
from vadv.student.tokens import Tokens

BATCH = 256
"""Texts that are computed together, at most."""


class OverloadedError(Exception):
    """More texts are waiting than may wait."""


@dataclass
class _Waiting:
    texts: list[str]
    answer: asyncio.Future[tuple[np.ndarray, np.ndarray]]


class Batcher:
    """A queue of requests before a predictor. Lives in one event loop."""

    def __init__(self, predictor: Predictor, waiting_texts: int) -> None:
        """Prepare; `run` does the work.

        Args:
            predictor: computes.
            waiting_texts: texts that may wait, over all requests.
        """
        self._predictor, self._limit = predictor, waiting_texts
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self.waiting = 0
        """Texts that wait now."""
        self.batches = 0
        """Batches computed so far."""

    async def predict(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Predictions (n,) float32 and (n,) bool whether a text was cut.

        Raises:
            OverloadedError: too many texts wait already.
        """
        if self.waiting and self.waiting + len(texts) > self._limit:
            raise OverloadedError
        item = _Waiting(list(texts), asyncio.get_running_loop().create_future())
        self._queue.append(item)
        self.waiting += len(texts)
        self._arrived.set()
        return await item.answer

    async def run(self) -> None:
        """Compute what arrives, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                await self._compute(self._next())

    def _next(self) -> list[_Waiting]:
        """Whole requests, oldest first, up to BATCH texts; those whose client has left are dropped."""
        taken: list[_Waiting] = []
        size = 0
        while self._queue and (not taken or size + len(self._queue[0].texts) <= BATCH):
            item = self._queue.popleft()
            self.waiting -= len(item.texts)
            if not item.answer.done():
                taken.append(item)
                size += len(item.texts)
        return taken

    async def _compute(self, items: list[_Waiting]) -> None:
        texts = [text for item in items for text in item.texts]
        if not texts:
            return
        self.batches += 1
        try:
            values, cuts = await asyncio.to_thread(self._work, texts)
        except Exception as error:  # one broken batch must not end the service: its requests hear of it
            for item in items:
                with contextlib.suppress(asyncio.InvalidStateError):
                    item.answer.set_exception(error)
            return
        start = 0
        for item in items:
            stop = start + len(item.texts)
            if not item.answer.done():
                item.answer.set_result((values[start:stop], cuts[start:stop]))
            start = stop

    def _work(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        tokens: list[Tokens] = self._predictor.tokenizer(texts)
        return self._predictor.scores(tokens), np.array([t.cut for t in tokens], dtype=bool)
