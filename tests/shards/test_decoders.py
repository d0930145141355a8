"""A decoder may hang, crash or be killed: it costs at most the sample it works on, and nothing stays behind."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from small_shards import descriptors, meta, npy, write_tar

from shards.dataset import OpenShard
from shards.decode import Job, Settings
from shards.pool import DecoderPool
from shards.sample import BadSample

SETTINGS = Settings(frames=2, frame_size=16)


@pytest.fixture(autouse=True)
def _find_broken_decoder(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def shard(tmp_path):
    """Makes an open shard of samples with these texts."""

    def make(texts, arrays=False):
        tar = tmp_path / "000000.tar"
        rows = []
        for number, text in enumerate(texts):
            rows.append([("json", meta(number, text=text, label=number))])
            if arrays:
                rows[-1].append(("audio.npy", npy(np.full(500 + number, number, np.float32))))
        write_tar(tar, 0, rows)
        return OpenShard(tar)

    return make


def run(shard, workers=2, timeout=20.0, disturb=None):
    """(id or cause) of each sample, in order."""
    with_pool = DecoderPool(SETTINGS, workers, timeout, "broken_decoder:decode")
    try:
        jobs = [Job(members=shard.index.members(row)) for row in range(len(shard.index))]
        futures = [with_pool.submit(job, shard) for job in jobs]
        if disturb:
            disturb(with_pool, futures)
        found = []
        for number, future in enumerate(futures):
            try:
                sample, frames = future.result(timeout=60)
                assert frames.shape == SETTINGS.frames_shape and (frames == number * 8 % 256).all()
                assert all((array == number).all() and len(array) == 500 + number for array in sample.arrays.values())
                found.append(sample.id)
            except BadSample as error:
                found.append(f"{error.cause}: {error}")
        return found
    finally:
        with_pool.close()


def expected(count, **bad):
    return [bad.get(f"at{n}", f"toy-{n}") for n in range(count)]


def test_answers_belong_to_their_samples(shard):
    """Many more samples than slots, answered out of order."""
    texts = [f"sleep:{(n * 7 % 5) / 500}" for n in range(120)]
    assert run(shard(texts, arrays=True), workers=5) == expected(120)


def test_a_hang_in_native_code_costs_its_sample(shard):
    texts = ["ok"] * 4 + ["hang"] + ["ok"] * 20 + ["hang"] + ["ok"] * 4
    began = time.monotonic()
    found = run(shard(texts), timeout=0.5)
    late = "timeout: not decoded within 0.5 s; its decoder was killed"
    assert found == expected(30, at4=late, at25=late) and time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("segfault", "crash: its decoder ended with signal SIGSEGV"),
        ("exit:7", "crash: its decoder ended with exit code 7"),
        ("exit:0", "crash: its decoder ended with exit code 0"),
        ("raise", "crash: its decoder ended with exit code 1"),
        ("kill", "crash: its decoder ended with signal SIGKILL"),
        ("bad:no such codec", "undecodable: no such codec"),
    ],
)
def test_a_crash_costs_its_sample(shard, text, cause):
    texts = ["ok"] * 3 + [text] + ["ok"] * 10 + [text]
    assert run(shard(texts), workers=2) == expected(15, at3=cause, at14=cause)
    assert run(shard([text] * 3), workers=1) == [cause] * 3


def test_a_decoder_killed_from_outside_costs_nothing_the_first_time(shard, tmp_path):
    texts = ["ok"] * 3 + [f"kill once:{tmp_path / 'marker'}"] + ["ok"] * 6
    assert run(shard(texts), workers=1) == expected(10)


def test_killing_busy_and_idle_decoders_all_the_time(shard):
    def disturb(pool, futures):
        for _ in range(8):
            deadline = time.monotonic() + 5
            while len(pool.pids()) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            victims = pool.pids()[:1]
            for pid in victims:
                with contextlib.suppress(psutil.NoSuchProcess):  # it has gone by itself meanwhile
                    psutil.Process(pid).kill()
            time.sleep(0.03)

    found = run(shard(["sleep:0.02"] * 60), workers=3, disturb=disturb)
    assert all(a == b or a == "crash: its decoder ended with signal SIGKILL" for a, b in zip(found, expected(60)))
    assert sum(a == b for a, b in zip(found, expected(60))) >= 60 - 8  # a kill costs one sample at most

    def idle(pool, futures):
        for future in futures:
            future.result(timeout=60)
        for pid in pool.pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        row = shard_of.index.members(0)
        assert pool.submit(Job(members=row), shard_of).result(timeout=60)[0].id == "toy-0"

    shard_of = shard(["ok"] * 4)
    assert run(shard_of, workers=2, disturb=idle) == expected(4)


def test_a_sample_of_a_killed_decoder_goes_to_a_new_one(shard):
    """Whatever killed one may have killed the others as well, which is heard of later."""

    def disturb(pool, futures):
        for future in futures:
            future.result(timeout=60)
        first, second = (psutil.Process(pid) for pid in pool.pids())
        first.suspend()
        second.suspend()
        again = pool.submit(Job(members=row), shard_of)
        while not pool._decoders[0].tasks:  # the pool's thread has to have handed it out: `first` dies with it
            time.sleep(0.01)
        first.kill()
        assert again.result(timeout=10)[0].id == "toy-0"  # `second` would have kept it
        second.kill()

    shard_of = shard(["ok"] * 4)
    row = shard_of.index.members(0)
    assert run(shard_of, workers=2, disturb=disturb) == expected(4)


def test_the_fork_server_may_be_killed(shard):
    def disturb(pool, futures):
        futures[0].result(timeout=60)
        psutil.Process(pool.pids()[0]).parent().kill()

    assert run(shard(["sleep:0.01"] * 40), workers=2, disturb=disturb) == expected(40)


def test_signals_of_the_terminal_and_of_batch_systems_are_ignored(shard):
    def disturb(pool, futures):
        futures[0].result(timeout=60)
        processes = [psutil.Process(pid) for pid in pool.pids()]
        assert len(processes) == 2
        for process in [*processes, processes[0].parent()]:
            assert os.getpgid(process.pid) != os.getpgid(0)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                process.send_signal(number)

    assert run(shard(["sleep:0.01"] * 20), disturb=disturb) == expected(20)


def test_the_longest_text_passes(shard):
    texts = ["é" * 20_000, "\x01" * 20_000, "a" * 130_000]
    found = run(shard(texts), workers=1)
    assert found[0] == "toy-0" and found[1] == "toy-1" and found[2] == "toy-2"


def test_memory_that_is_taken_away_costs_samples_not_the_run(shard):
    """What a machine out of shared memory does to a decoder that writes a frame: SIGBUS.

    It is taken while both decoders sleep, and given back when one has died of it: this process must not read then.
    """

    def disturb(pool, futures):
        futures[0].result(timeout=60)
        while len(busy := set(pool.pids())) < 2:
            time.sleep(0.001)
        size = os.fstat(pool._memory.descriptor).st_size
        os.ftruncate(pool._memory.descriptor, 0)
        while busy <= set(pool.pids()):
            time.sleep(0.001)
        os.ftruncate(pool._memory.descriptor, size)

    found = run(shard(["ok", "sleep:1", "sleep:1"] + ["sleep:0.01"] * 27), workers=2, disturb=disturb)
    lost = [name for name in found if not name.startswith("toy-")]
    assert 1 <= len(lost) <= 10 and set(lost) == {"crash: its decoder ended with signal SIGBUS"}


def test_without_shared_memory_a_temporary_file_serves_or_one_line_tells(tmp_path):
    program = """
import os, resource, sys
from shards.memory import allocate
if sys.argv[1] == "file":
    os.memfd_create = lambda *_: (_ for _ in ()).throw(OSError(38, "Function not implemented"))
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    descriptor = allocate(4 << 20)
    print(os.fstat(descriptor).st_size, os.fstat(descriptor).st_nlink)
except OSError as error:
    print(error)
"""
    for kind, output in (
        ("file", f"{4 << 20} 0\n"),
        ("full", "decoders need 4 MiB of shared memory: File too large; lower data.workers or data.prefetch\n"),
    ):
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", program, kind]
        assert subprocess.run(command, capture_output=True, text=True, env=environment).stdout == output
    assert list(tmp_path.iterdir()) == []


def test_frames_stay_what_they_are_for_as_long_as_anybody_holds_them(shard):
    opened = shard(["ok"] * 40)
    pool = DecoderPool(SETTINGS, 2, 50, "broken_decoder:decode", lend=5)

    def read(rows):
        futures = [pool.submit(Job(members=opened.index.members(row)), opened) for row in rows]
        return [future.result(timeout=60)[1] for future in futures]

    def lent():
        return 5 - len(pool._memory.spare)

    try:
        held = read(range(8))
        assert lent() == 5 and sum(frames.flags.owndata for frames in held) == 3  # the rest is copied
        # Of each only a piece is kept, as a view of a view or as a tensor.
        held = [frames[1:][0, :, 3] for frames in held[:4]] + [torch.from_numpy(frames)[1, 0] for frames in held[4:]]
        read(range(8, 40))
        assert all((piece == number * 8).all() for number, piece in enumerate(held))
        assert lent() == 5
        del held
        assert lent() == 0
        last = read(range(3))
        assert not any(frames.flags.owndata for frames in last)
    finally:
        pool.close()
    assert all((frames == number * 8).all() for number, frames in enumerate(last))


def test_closing_gives_everything_back(shard):
    opened = shard(["ok"] * 5 + ["hang"])
    before = descriptors(), len(psutil.Process().children(recursive=True))
    for _ in range(3):
        pool = DecoderPool(SETTINGS, 2, 50, "broken_decoder:decode")
        futures = [pool.submit(Job(members=opened.index.members(row)), opened) for row in range(6)]
        futures[0].result(timeout=60)
        pool.close()
        pool.close()
        with pytest.raises(RuntimeError, match="closed"):
            futures[5].result(timeout=5)
        assert (descriptors(), len(psutil.Process().children(recursive=True))) == before


def test_decoders_that_cannot_start_end_the_run_with_a_message(shard):
    opened = shard(["ok"])
    pool = DecoderPool(SETTINGS, 1, 50, "no_such_module:decode")
    try:
        with pytest.raises(OSError, match="cannot be started"):
            pool.submit(Job(members=opened.index.members(0)), opened).result(timeout=60)
    finally:
        pool.close()


TRAINER = """
import sys, time
from shards.dataset import OpenShard
from shards.decode import Job, Settings
from shards.pool import DecoderPool
opened = OpenShard(sys.argv[1])
pool = DecoderPool(Settings(frames=2, frame_size=16), 3, 1000, "broken_decoder:decode")
futures = [pool.submit(Job(members=opened.index.members(row)), opened) for row in range(len(opened.index))]
futures[0].result()
while len(pool.pids()) < 3:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(1000)
"""


def test_the_end_of_a_decoder_and_of_its_link_may_be_told_at_once(shard, monkeypatch):
    waiting = selectors.DefaultSelector.select

    def late(self, timeout=None):
        time.sleep(0.05)  # both are there by then
        return waiting(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", late)
    cause = "crash: its decoder ended with exit code 1"
    assert run(shard(["ok", "raise", "ok", "ok", "raise"]), workers=2) == expected(5, at1=cause, at4=cause)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_trainer(shard, tmp_path, number):
    """Not even decoders that hang in native code and hold the GIL."""
    shard(["ok", "hang", "hang", "hang", "hang"])
    command = [sys.executable, "-c", TRAINER, str(tmp_path / "000000.tar")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as trainer:
        try:
            assert trainer.stdout.readline() == "ready\n"
            family = psutil.Process(trainer.pid).children(recursive=True)
            assert len(family) == 4
            # Shared memory without a name cannot be left behind.
            assert not any("/dev/shm" in map.path for p in family for map in p.memory_maps())
            trainer.send_signal(number)
            trainer.wait(timeout=20)
            _, alive = psutil.wait_procs(family, timeout=20)
        finally:
            trainer.kill()
    assert alive == []
    assert {path.suffix for path in tmp_path.iterdir()} == {".tar", ".idx"}
