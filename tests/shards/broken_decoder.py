"""A decoder that does what the sample's text says; it runs in the decoder processes of test_decoders.py."""

import ctypes
import io
import os
import signal
import sys
import time

import numpy as np

from shards.decode import Job, Sample, Settings, read_members
from shards.sample import BadSample, parse_arrays, parse_meta


def decode(descriptor: int, job: Job, settings: Settings, out: np.ndarray) -> Sample:
    members = read_members(descriptor, job.members)
    meta = parse_meta(members["json"])
    what, _, argument = meta["text"].partition(":")
    match what:
        case "hang":
            # PyDLL keeps the GIL: no signal handler, thread or exception of Python's gets a chance.
            ctypes.PyDLL(None).sleep(1000)
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(int(argument))
        case "raise":
            sys.stderr = io.StringIO()
            raise RuntimeError("a mistake in the decoder")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill once":
            try:
                os.close(os.open(argument, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        case "bad":
            raise BadSample("undecodable", argument, "mp4", meta["id"])
        case "sleep":
            time.sleep(float(argument))
    out[:] = int(meta["label"] * 8) % 256
    arrays = parse_arrays(members)
    return Sample(id=meta["id"], dataset="toy", text=meta["text"], label=meta["label"], arrays=arrays, video=True)
