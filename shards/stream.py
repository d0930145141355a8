"""The walk through an epoch: which clips each rank gets in each step, read ahead, in the same order for everyone.

An epoch of N samples is cut into steps of `batch_size` (the last may be shorter). Slot j of a step belongs to
accumulation a, rank r and place i with j = a·(world·micro) + r·micro + i, so that the samples of a step are the same
for every way of spreading them. A slot without a sample holds an empty `Clip`, a sample that could not be read holds
its fault; both weigh nothing, and the step's `planned` count tells what to divide by.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.clip import Clip, Fault
from shards.decode import Job, Sample, Settings, decode
from shards.order import Order
from shards.pool import DecoderPool, Opened
from shards.sample import BadSample

if TYPE_CHECKING:
    from shards.dataset import ClipSet, Place

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """What one optimizer step sees on this rank.

    Attributes:
        index: number of the step in its epoch.
        planned: samples of the step over all ranks and micro-batches, readable or not.
        position: samples of the epoch that are consumed once this step is done.
        micro_batches: `accumulation` lists of `micro_batch_size` clips.
    """

    index: int
    planned: int
    position: int
    micro_batches: list[list[Clip]]


@dataclass(frozen=True)
class _Slot:
    """A sample under way, or the reason why it cannot be read, or (index -1) no sample."""

    index: int = -1
    where: str = ""
    future: Future[tuple[Sample, np.ndarray | None]] | None = None
    fault: BadSample | None = None
    features: Any = None


class ClipStream:
    """Reads a ClipSet epoch by epoch, for one rank."""

    def __init__(
        self,
        clips: ClipSet,
        *,
        seed: int,
        batch_size: int,
        micro_batch_size: int,
        world_size: int = 1,
        rank: int = 0,
        shuffle: bool = True,
        window: int = 16,
        views: int = 0,
        frames: int = 8,
        frame_size: int = 224,
        workers: int = 2,
        prefetch: int = 4,
        decode_timeout: float = 30.0,
        video: bool = True,
        faces: bool = True,
        features: Callable[[str, str, int], Any] | None = None,
    ) -> None:
        """Start the decoders; nothing is read yet.

        Args:
            batch_size: samples of a step over all ranks.
            micro_batch_size: samples of this rank in one forward pass.
            shuffle: training order and random frames, or split order and the middle of each segment.
            window: shards whose samples are shuffled together.
            views: distinct random samplings of frames that the epochs use in turn; 0 draws afresh in each epoch.
            workers: decoder processes; 0 decodes in a thread of this process, without protection against hangs.
            prefetch: micro-batches read ahead.
            decode_timeout: seconds that one sample may take.
            video, faces: whether frames and face features are wanted.
            features: asked with (dataset, id, view) for what stands in for a sample's frames; on None they are decoded.

        Raises:
            ValueError: batch_size is no multiple of world_size x micro_batch_size, or rank is not below world_size.
        """
        accumulation, rest = divmod(batch_size, world_size * micro_batch_size)
        if rest or accumulation < 1:
            raise ValueError(
                f"train.batch_size: expected a multiple of world size x micro_batch_size = {world_size} x "
                f"{micro_batch_size}, found {batch_size}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: expected 0 to {world_size - 1}, found {rank}")
        self.clips, self.batch_size, self.micro_batch_size = clips, batch_size, micro_batch_size
        self.world_size, self.rank, self.accumulation = world_size, rank, accumulation
        self.shuffle, self.views, self.video, self.features = shuffle, views, video, features
        self.prefetch = prefetch
        self.order = Order(clips.sizes, seed, window, shuffle)
        self.settings = Settings(frames=frames, frame_size=frame_size, seed=seed, faces=faces)
        self._readers: DecoderPool | _Here
        # Frames are held by what is read ahead and by the step in work.
        held = (prefetch + 1 + self.accumulation) * micro_batch_size
        self._readers = (
            DecoderPool(self.settings, workers, decode_timeout, lend=held) if workers else _Here(self.settings)
        )
        self._feeders: list[_Feeder] = []

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the short last one included."""
        return -(-len(self.clips) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Step]:
        """The steps of an epoch on this rank, from `start` consumed samples on.

        Any start is possible and none costs more than another: batches are cut from there.

        Raises:
            ValueError: start is beyond the epoch.
        """
        if not 0 <= start <= len(self.clips):
            raise ValueError(f"start: expected a position of 0 to {len(self.clips)}, found {start}")
        return self._steps(epoch, start)

    def close(self) -> None:
        """End the decoders and what reads ahead."""
        for feeder in list(self._feeders):
            feeder.stop()
        self._readers.close()

    def __enter__(self) -> ClipStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _steps(self, epoch: int, start: int) -> Iterator[Step]:
        feeder = _Feeder(self, epoch, start)
        self._feeders.append(feeder)
        try:
            for first in range(start, len(self.clips), self.batch_size):
                last = min(first + self.batch_size, len(self.clips))
                micro_batches = [
                    [self._clip(feeder.next()) for _ in range(self.micro_batch_size)] for _ in range(self.accumulation)
                ]
                yield Step(first // self.batch_size, last - first, last, micro_batches)
        finally:
            self._feeders.remove(feeder)
            feeder.stop()

    def slots(self, first: int, planned: int) -> list[int]:
        """Positions of this rank's slots in a step that begins at `first`, -1 where the step has no sample."""
        places = (
            np.arange(self.accumulation)[:, None] * self.world_size * self.micro_batch_size
            + self.rank * self.micro_batch_size
            + np.arange(self.micro_batch_size)
        )  # (accumulation, micro)
        return [first + j if j < planned else -1 for j in places.ravel().tolist()]

    def begin(self, epoch: int, shard: int, row: int) -> _Slot:
        """Start to read a sample."""
        index = self.clips.index(shard, row)
        where = self.clips.where(shard)
        try:
            place: Place = self.clips.place(shard, row)
            where = f"{where}:{place.key}"
            view = (epoch % self.views if self.views else epoch) if self.shuffle else None
            features = None
            if self.video and self.features is not None:
                meta = self.clips.meta(shard, row)
                features = self.features(meta["dataset"], meta["id"], view or 0)
            job = Job(members=place.members, view=view, video=self.video and features is None)
            return _Slot(index, where, self._readers.submit(job, place.shard), features=features)
        except BadSample as error:
            return _Slot(index, where, fault=error)

    def _clip(self, slot: _Slot) -> Clip:
        """Wait for a sample."""
        if slot.index < 0:
            return Clip()
        try:
            if slot.fault is not None:
                raise slot.fault
            assert slot.future is not None
            sample, frames = slot.future.result()
        except BadSample as error:
            where = f"{slot.where}.{error.member}" if error.member else slot.where
            fault = Fault(id=error.id, cause=error.cause, detail=error.detail, where=where)
            return Clip(id=error.id, index=slot.index, fault=fault)
        return Clip(
            id=sample.id,
            dataset=sample.dataset,
            index=slot.index,
            text=sample.text,
            label=sample.label,
            frames=frames,
            features=slot.features,
            **sample.arrays,  # type: ignore[arg-type]
        )


class _Feeder:
    """A thread that starts reading samples in order, `prefetch` micro-batches ahead of their use."""

    def __init__(self, stream: ClipStream, epoch: int, start: int) -> None:
        self.stream, self.epoch, self.start = stream, epoch, start
        self._ahead = threading.Semaphore((stream.prefetch + 1) * stream.micro_batch_size)
        self._slots: queue.SimpleQueue[_Slot | BaseException] = queue.SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="clip-feeder", daemon=True)
        self._thread.start()

    def next(self) -> _Slot:
        """The next slot, in order."""
        slot = self._slots.get()
        if isinstance(slot, BaseException):
            raise slot
        self._ahead.release()
        return slot

    def stop(self) -> None:
        """End the thread and drop what was read ahead."""
        self._stopped = True
        self._ahead.release()
        with contextlib.suppress(queue.Empty):
            while True:
                slot = self._slots.get_nowait()
                if isinstance(slot, _Slot) and slot.future is not None:
                    slot.future.cancel()
        self._slots.put(RuntimeError("the stream is closed"))  # to whoever still waits for a slot
        # It may be waiting for a remote shard; once stopped it does no harm, and the process may end before it does.
        self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            for slot in self._samples():
                self._slots.put(slot)
                if self._stopped:
                    return
        except BaseException as error:
            # Not a bad sample but a mistake or a dead pool: the consumer raises it.
            self._slots.put(error)

    def _samples(self) -> Iterator[_Slot]:
        stream = self.stream
        total, batch = len(stream.clips), stream.batch_size
        fetching: list[int] = []
        for first in range(self.start, total, batch):
            planned = min(batch, total - first)
            if stream.clips.cache is not None:
                window = stream.order.shards_from(self.epoch, first, 2 * stream.order.window).tolist()
                if window != fetching:
                    fetching = window
                    stream.clips.prefetch(window)
            shards, rows = stream.order.slice(self.epoch, first, first + planned)
            for position in stream.slots(first, planned):
                self._ahead.acquire()
                if self._stopped:
                    return
                if position < 0:
                    yield _Slot()
                else:
                    at = position - first
                    yield stream.begin(self.epoch, int(shards[at]), int(rows[at]))


class _Here:
    """Reads samples in the calling thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def submit(self, job: Job, tar: Opened) -> Future[tuple[Sample, np.ndarray | None]]:
        future: Future[tuple[Sample, np.ndarray | None]] = Future()
        frames = np.empty(self.settings.frames_shape, np.uint8)
        try:
            sample = decode(tar.descriptor, job, self.settings, frames)
            future.set_result((sample, frames if sample.video else None))
        except BadSample as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Nothing to end."""
