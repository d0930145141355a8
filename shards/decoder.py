"""The decoder processes' side of pool.py: a fork server, and the loop of a decoder.

The trainer starts `python -m shards.decoder` once. That process imports what decoding needs, holds no locks, threads or
files of the trainer's, and forks a decoder for each request, so that replacing a killed one takes a few milliseconds.

Nobody outlives the trainer: the kernel kills the fork server when the trainer's pool thread ends (PR_SET_PDEATHSIG) and
the decoders when the fork server ends, also when they hang in native code that no signal handler could interrupt.
Terminal and batch-system signals are the trainer's to handle: a session of their own and ignored signals see to that.

Messages are JSON in SOCK_SEQPACKET datagrams. To the fork server: `{"start": worker}` with the worker's socket, and
`{"kill": pid}`; from it `{"started": worker, "pid": pid}` and `{"ended": pid, "code": exit code or minus signal}`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from shards.decode import Job, Sample, Settings
from shards.index import Member
from shards.memory import Memory
from shards.sample import BadSample

MESSAGE = 192 << 10
"""Upper bound of a message in bytes; KEY.json is at most 128 KiB."""
PLACES = 2
"""Samples in a decoder's hands: it writes one while the other is read or its next job waits."""

ADDRESS_SPACE = 4 << 30
"""Bytes of address space of a decoder: a picture of 30,000 x 30,000 pixels fits into a tiny file. Ordinary decoders use
less than a tenth."""

Decode = Callable[[int, Job, Settings, np.ndarray], Sample]


def job_message(job: Job, place: int, slot: int) -> bytes:
    """A job as it travels to a decoder; the tar's descriptor travels beside it."""
    members = [[m.number, m.suffix, m.offset, m.size, m.crc] for m in job.members.values()]
    request = {"place": place, "slot": slot, "members": members, "view": job.view, "video": job.video}
    return json.dumps(request).encode()


def main(arguments: list[str]) -> None:
    """The fork server.

    Arguments: control socket, shared memory, its places, its slots, parent's pid, decode function, settings.
    """
    control = socket.socket(fileno=int(arguments[0]))
    parent = int(arguments[4])
    _die_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    module, function = arguments[5].split(":")
    decoding: Decode = getattr(importlib.import_module(module), function)
    settings = Settings(**json.loads(arguments[6]))
    memory = Memory(int(arguments[1]), settings, int(arguments[2]), int(arguments[3]))
    with contextlib.suppress(ImportError):
        importlib.import_module("decord")
        importlib.import_module("PIL.Image")

    ended, wake = socket.socketpair()
    ended.setblocking(False)
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(ended, selectors.EVENT_READ)
    children: set[int] = set()
    server = os.getpid()
    while True:
        for key, _ in selector.select():
            if key.fileobj is ended:
                with contextlib.suppress(BlockingIOError):
                    ended.recv(4096)
                continue
            data, descriptors, _flags, _address = socket.recv_fds(control, MESSAGE, 1)
            if not data:
                return  # The trainer closed the pool or died; the kernel ends the children with us.
            request = json.loads(data)
            if "kill" in request:
                # Only a child that was not waited for yet: its pid cannot belong to anyone else.
                if request["kill"] in children:
                    os.kill(request["kill"], signal.SIGKILL)
                continue
            link = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if pid == 0:
                _die_with_parent(server)
                signal.set_wakeup_fd(-1)
                resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
                for other in (selector, control, ended, wake):
                    other.close()
                _serve(link, memory, decoding)
            link.close()
            children.add(pid)
            _tell(control, {"started": request["start"], "pid": pid})
        for pid in list(children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                children.discard(pid)
                _tell(control, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        control.send(json.dumps(message).encode())


def _serve(link: socket.socket, memory: Memory, decoding: Decode) -> None:
    """A decoder's life: jobs until the trainer closes the link."""
    code = 1
    try:
        while True:
            data, descriptors, _flags, _address = socket.recv_fds(link, MESSAGE, 1)
            if not data:
                code = 0
                break
            try:
                answer = _answer(json.loads(data), descriptors[0], memory, decoding)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            link.send(json.dumps(answer, ensure_ascii=False).encode())
    except (BrokenPipeError, ConnectionResetError):
        code = 0
    except BaseException:
        # A mistake of ours, or no memory: the trainer sees a crash, the person sees where.
        traceback.print_exc()
    finally:
        # Not sys.exit: what the fork server's exit would tidy is not ours.
        os._exit(code)


def _answer(request: dict[str, Any], descriptor: int, memory: Memory, decoding: Decode) -> dict[str, Any]:
    members = {suffix: Member(number, suffix, *where) for number, suffix, *where in request["members"]}
    job = Job(members=members, view=request["view"], video=request["video"])
    try:
        sample = decoding(descriptor, job, memory.settings, memory.frames(request["slot"]))
        space, arrays, at = memory.arrays(request["place"]), [], 0
        for name, array in sample.arrays.items():
            space[at : at + array.nbytes] = array.view(np.uint8).reshape(-1)
            arrays.append([name, list(array.shape), at])
            at += array.nbytes
    except BadSample as error:
        return {"cause": error.cause, "detail": error.detail, "member": error.member, "id": error.id}
    return {
        "id": sample.id,
        "dataset": sample.dataset,
        "text": sample.text,
        "label": sample.label,
        "arrays": arrays,
        "video": sample.video,
    }


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, also when that has happened already."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
