"""Decoding in processes that may hang, crash or be killed, each at the cost of one sample.

A thread of the trainer hands jobs to decoder processes (decoder.py), reads their answers and watches the clock. Each
decoder has a link of its own and no lock or pipe is shared between them, so that whichever way one dies the others
are not held up; this is why multiprocessing's pools, whose workers share a queue and its lock, are not used. Frames
come through shared memory (memory.py), where the caller reads them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from shards.decode import Job, Sample, Settings
from shards.decoder import MESSAGE, PLACES, job_message
from shards.memory import LentMemory
from shards.sample import BadSample

log = logging.getLogger(__name__)

DECODE = "shards.decode:decode"
_STARTS = 5
"""Fork servers that may end in a row without a single answer before the pool gives up."""


class Opened(Protocol):
    """An open tar; holding on to the object keeps the descriptor open."""

    descriptor: int


@dataclass(eq=False)
class _Task:
    job: Job
    tar: Opened
    future: Future[tuple[Sample, np.ndarray | None]]
    running: bool = False
    killed: int | None = None
    """The youngest decoder when its own was killed from outside: others of that age may be dead too, unheard of yet."""


@dataclass(eq=False)
class _Decoder:
    """One decoder process: number, link, pid once known, and the tasks sent to it, the first being worked on.

    Each task has a place, which stands for room for its arrays and, through the memory's `slots`, for its frames.
    """

    number: int
    link: socket.socket
    pid: int | None = None
    tasks: deque[tuple[_Task, int]] = field(default_factory=deque)
    since: float = 0.0
    condemned: bool = False
    birth: int = field(default_factory=itertools.count().__next__)

    def free_place(self) -> int | None:
        used = {place for _, place in self.tasks}
        return next((p for p in range(self.number * PLACES, (self.number + 1) * PLACES) if p not in used), None)


class DecoderPool:
    """Decoder processes and the thread that serves them.

    A future's result is (sample, frames); frames, (T, 3, H, W) uint8, belong to the caller, for as long as it holds
    them or a view of them. Its exception is BadSample when the sample is to blame, with cause `timeout` or `crash` for
    what happened to its decoder.
    """

    def __init__(self, settings: Settings, workers: int, timeout: float, decode: str = "", lend: int = 0) -> None:
        """Start; does not wait for the processes.

        Args:
            workers: decoder processes, at least 1.
            timeout: seconds that one sample may take.
            decode: `module:function` that decodes, for tests.
            lend: samples whose frames the caller may hold before further ones are copied.

        Raises:
            ValueError: this system is not Linux.
            OSError: no shared memory.
        """
        if sys.platform != "linux":
            raise ValueError(
                f"data.workers: expected 0 on {sys.platform} (decoder processes need Linux), found {workers}"
            )
        self.settings, self.workers, self.timeout, self._decode = settings, workers, timeout, decode or DECODE
        self._memory = LentMemory(settings, workers * PLACES, lend)
        self._waiting: deque[_Task] = deque()
        self._lock = threading.Lock()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = False
        self._failure: BaseException | None = None
        self._decoders: dict[int, _Decoder] = {}
        self._starts = 0
        self._thread = threading.Thread(target=self._run, name="decoder-pool", daemon=True)
        self._thread.start()

    def submit(self, job: Job, tar: Opened) -> Future[tuple[Sample, np.ndarray | None]]:
        """Have a sample read; answers come in any order."""
        future: Future[tuple[Sample, np.ndarray | None]] = Future()
        with self._lock:
            if self._failure is not None or self._closing:
                future.set_exception(self._failure or RuntimeError("the decoder pool is closed"))
                return future
            idle = not self._waiting
            self._waiting.append(_Task(job, tar, future))
        if idle:  # Else the thread knows of a task that no decoder is free for, and comes back for all of them.
            os.eventfd_write(self._bell, 1)
        return future

    def close(self) -> None:
        """Kill the processes and free the memory; what was not answered is cancelled."""
        if self._closing:
            return
        with self._lock:
            self._closing = True
        os.eventfd_write(self._bell, 1)
        self._thread.join()
        os.close(self._bell)
        self._memory.close()

    def pids(self) -> list[int]:
        """Process ids of the decoders that run now."""
        return [decoder.pid for decoder in list(self._decoders.values()) if decoder.pid is not None]

    # The pool's thread. Everything below runs in it, so that nothing but `_waiting` needs a lock.

    def _run(self) -> None:
        try:
            while not self._closing:
                self._serve()
        except BaseException as error:
            log.error("the decoder pool failed: %s", error)
            self._failure = error
        finally:
            with self._lock:
                left = [task for decoder in self._decoders.values() for task, _ in decoder.tasks] + list(self._waiting)
                self._waiting.clear()
            for task in left:
                if task.running or task.future.set_running_or_notify_cancel():
                    task.future.set_exception(self._failure or RuntimeError("the decoder pool is closed"))

    def _serve(self) -> None:
        """One life of the fork server: until it ends or the pool is closed."""
        self._starts += 1
        if self._starts > _STARTS:
            raise OSError(
                f"decoder processes cannot be started ({_STARTS} attempts); run with data.workers 0 to see why"
            )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [theirs.fileno(), self._memory.descriptor, *self._memory.shape, os.getpid(), self._decode]
        server = subprocess.Popen(
            [sys.executable, "-m", "shards.decoder", *map(str, arguments), json.dumps(asdict(self.settings))],
            pass_fds=(theirs.fileno(), self._memory.descriptor),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # One decoder, one core: libraries must not start a thread for each core in each decoder.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )
        theirs.close()
        self._control = ours
        self._selector = selectors.DefaultSelector()
        self._selector.register(ours, selectors.EVENT_READ, "control")
        self._selector.register(self._bell, selectors.EVENT_READ, "bell")
        self._decoders = {}
        try:
            for number in range(self.workers):
                self._start(number)
            while not self._closing and self._turn():
                pass
        finally:
            ours.close()
            # It ends by itself now; only a stopped process would not.
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=1)
            server.kill()
            server.wait()
            self._selector.close()
            for decoder in self._decoders.values():
                decoder.link.close()
        if not self._closing:
            log.warning("the fork server of the decoders ended (code %s); starting another", server.returncode)
            for decoder in list(self._decoders.values()):
                self._lost(decoder, -signal.SIGKILL)

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._decoders[number] = _Decoder(number, ours)
        self._selector.register(ours, selectors.EVENT_READ, self._decoders[number])
        with theirs, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._control, [json.dumps({"start": number}).encode()], [theirs.fileno()])

    def _turn(self) -> bool:
        """Wait for something to happen and see to it; False when the fork server has ended."""
        self._hand_out()
        for key, _ in self._selector.select(self._patience()):
            if key.data == "bell":
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
            elif key.data == "control":
                try:
                    data = self._control.recv(MESSAGE)
                except ConnectionResetError:
                    data = b""
                if not data:
                    return False
                self._hear(json.loads(data))
            elif key.data in self._decoders.values():  # not one whose end was heard of just now
                self._read(key.data)
        now = time.monotonic()
        for decoder in list(self._decoders.values()):
            if decoder.tasks and not decoder.condemned and now - decoder.since > self.timeout:
                task, _ = decoder.tasks.popleft()
                self._condemn(decoder)
                self._settle(
                    task, BadSample("timeout", f"not decoded within {self.timeout:g} s; its decoder was killed")
                )
        return True

    def _patience(self) -> float | None:
        deadlines = [d.since + self.timeout for d in self._decoders.values() if d.tasks and not d.condemned]
        return max(0.0, min(deadlines) - time.monotonic()) + 0.001 if deadlines else None

    def _hand_out(self) -> None:
        """Fill the decoders, the emptiest first."""
        while self._waiting:
            killed = self._waiting[0].killed
            ready = [
                d
                for d in self._decoders.values()
                if d.pid is not None
                and not d.condemned
                and len(d.tasks) < PLACES
                and (killed is None or d.birth > killed)
            ]
            if not ready:
                return
            decoder = min(ready, key=lambda d: len(d.tasks))
            place = decoder.free_place()
            with self._lock:
                task = self._waiting.popleft()
            if place is None or not (task.running or task.future.set_running_or_notify_cancel()):
                continue  # Nobody waits for it any more.
            task.running = True
            try:
                message = job_message(task.job, place, self._memory.slots[place])
                socket.send_fds(decoder.link, [message], [task.tar.descriptor])
            except (BrokenPipeError, ConnectionResetError):
                # It has just died, of which the fork server will tell; the task goes to another.
                with self._lock:
                    self._waiting.appendleft(task)
                self._condemn(decoder)
                continue
            except OSError as error:
                self._settle(task, BadSample("unreadable", str(error)))
                continue
            if not decoder.tasks:
                decoder.since = time.monotonic()
            decoder.tasks.append((task, place))

    def _hear(self, message: dict[str, Any]) -> None:
        """Word from the fork server."""
        if "started" in message:
            self._decoders[message["started"]].pid = message["pid"]
            return
        decoder = next((d for d in self._decoders.values() if d.pid == message["ended"]), None)
        if decoder is None:
            return
        # Answers that it sent before it died still count.
        with contextlib.suppress(OSError):
            while self._read(decoder):
                pass
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(decoder.link)
        decoder.link.close()
        self._lost(decoder, message["code"])
        self._start(decoder.number)

    def _lost(self, decoder: _Decoder, code: int) -> None:
        """A decoder has ended: the sample it worked on is to blame, unless it was killed from outside, once.

        Such a sample is read once more, by a new decoder. Samples that it had not begun go to another.
        """
        tasks = [task for task, _ in decoder.tasks]
        decoder.tasks.clear()
        if tasks and not decoder.condemned:
            if code == -signal.SIGKILL and tasks[0].killed is None:
                log.warning("a decoder was killed from outside; its sample is read once more")
                tasks[0].killed = max(d.birth for d in self._decoders.values())
            else:
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                self._settle(tasks.pop(0), BadSample("crash", f"its decoder ended with {how}"))
        with self._lock:
            self._waiting.extendleft(reversed(tasks))

    def _condemn(self, decoder: _Decoder) -> None:
        """Have a decoder killed; it gets no more work. What it was sent is handed out again when it is gone."""
        decoder.condemned = True
        if decoder.pid is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._control.send(json.dumps({"kill": decoder.pid}).encode())

    def _read(self, decoder: _Decoder) -> bool:
        """Take one answer; False when there is none."""
        try:
            data = decoder.link.recv(MESSAGE)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            # The link is closed: the fork server will tell why; do not spin meanwhile.
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(decoder.link)
            return False
        if decoder.condemned or not decoder.tasks:
            return True
        answer = json.loads(data)
        self._starts = 0
        task, place = decoder.tasks.popleft()
        decoder.since = time.monotonic()
        if "cause" in answer:
            self._settle(task, BadSample(**answer))
            return True
        space = self._memory.arrays(place)
        arrays = {
            name: space[at : at + 4 * math.prod(shape)].view(np.float32).reshape(shape).copy()
            for name, shape, at in answer.pop("arrays")
        }
        frames = self._memory.take(place) if answer["video"] else None
        self._settle(task, (Sample(**answer, arrays=arrays), frames))
        return True

    @staticmethod
    def _settle(task: _Task, result: tuple[Sample, np.ndarray | None] | BadSample) -> None:
        if isinstance(result, BadSample):
            task.future.set_exception(result)
        else:
            task.future.set_result(result)
