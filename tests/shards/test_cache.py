"""Remote shards arrive whole or not at all, through real servers that misbehave, into a cache that stays bounded."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import fsspec
import pytest
from bad_servers import serving, wait_until
from small_shards import npy, text_only, write_shards

import shards.remote
from shards.cache import ShardCache
from shards.dataset import ClipSet, ClipStream
from shards.manifest import read_manifest
from shards.remote import Remote, RemoteError

SIZES = [3, 5, 4, 6, 2, 7]
TOTAL = sum(SIZES)


def heavy(number):
    import numpy as np

    return [*text_only(number), ("audio.npy", npy(np.random.default_rng(number).random(5000, np.float32)))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("remote") / "set", SIZES, heavy)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(shards.remote, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(shards.remote, "PIECE", 30_000)


@pytest.fixture
def server(folder):
    with serving(folder.parent) as found:
        yield found


@pytest.fixture
def cache(tmp_path):
    with ShardCache(tmp_path / "cache", 1 << 30, timeout=1.0, attempts=4) as found:
        yield found


def shard_of(folder, number):
    return read_manifest(folder).splits["train"].shards[number]


def ids(clips, start=0, epoch=0, **options):
    options = {"seed": 3, "window": 2, "batch_size": 3, "micro_batch_size": 3, "workers": 0, "video": False} | options
    with ClipStream(clips, **options) as stream:
        found = [
            clip for step in stream.epoch(epoch, start) for m in step.micro_batches for clip in m if clip.index >= 0
        ]
    assert all(clip.fault is None for clip in found), [clip.fault for clip in found]
    return [clip.id for clip in found]


def files(cache, suffix="*"):
    return sorted(path for path in cache.folder.rglob(f"*.{suffix}") if path.is_file())


def test_a_remote_set_is_the_local_one(folder, server, cache):
    assert ids(ClipSet(f"{server.url}/set", "train", cache)) == ids(ClipSet(folder, "train"))
    count = len(server.requests)
    assert ids(ClipSet(f"{server.url}/set", "train", cache), epoch=1) == ids(ClipSet(folder, "train"), epoch=1)
    assert server.requests[count:] in (["set/manifest.json"], ["set/manifest.json"] * 2)  # nothing else came again
    assert len(files(cache, "tar")) == len(files(cache, "idx")) == 6 and not files(cache, "part")


def test_local_and_remote_folders_combine(folder, server, cache, tmp_path):
    other = write_shards(tmp_path / "other", [4], text_only, "other")
    both = ClipSet([other, f"{server.url}/set"], "train", cache)
    assert sorted(ids(both)) == sorted(f"toy-{n}" for n in [*range(4), *range(TOTAL)])


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_other_protocols(folder, cache, scheme):
    if scheme == "memory":
        fsspec.filesystem("memory").put(str(folder), "/set", recursive=True)
        url = "memory://set"
    else:
        url = folder.as_uri()
    assert ids(ClipSet(url, "train", cache)) == ids(ClipSet(folder, "train"))


@pytest.mark.parametrize("trouble", ["drop", "stall", "damage", "error", "busy", "short"])
@pytest.mark.parametrize("ranges", [True, False])
def test_troubles_that_pass(folder, cache, trouble, ranges):
    with serving(folder.parent, ranges) as server:
        tars = [f"set/train/{number:06d}.tar" for number in range(6)]
        server.troubles = {name: [trouble] if trouble == "damage" else [trouble, "", trouble] for name in tars}
        if trouble not in ("damage", "short"):
            server.troubles["set/manifest.json"] = [trouble]
        assert ids(ClipSet(f"{server.url}/set", "train", cache)) == ids(ClipSet(folder, "train"))
        assert all(len(server.troubles[name]) <= 2 for name in tars)
    assert not files(cache, "part")


def test_a_broken_connection_goes_on_where_it_broke(folder, server, cache):
    shard = shard_of(folder, 5)
    pieces = -(-shard.bytes // 30_000)
    server.troubles[f"set/{shard.file}"] = ["", "", "drop"]
    cache.fetch(f"{server.url}/set", shard)
    assert server.requests.count(f"set/{shard.file}") == pieces + 1


@pytest.mark.parametrize(("trouble", "message"), [("stall", "FSTimeoutError"), ("error", "500"), ("damage", "SHA-256")])
def test_troubles_that_stay(folder, server, cache, trouble, message):
    """One line that says what and where; the other shards are read; the next sample does not wait again."""
    shard = shard_of(folder, 0)
    server.troubles[f"set/{shard.file}"] = [trouble] * 100
    with pytest.raises(OSError, match=message) as error:
        cache.fetch(f"{server.url}/set", shard)
    assert shard.file in str(error.value) and "\n" not in str(error.value)
    before, began = len(server.requests), time.monotonic()
    with ClipStream(
        ClipSet(f"{server.url}/set", "train", cache),
        seed=3, batch_size=3, micro_batch_size=3, workers=0, video=False, window=6,
    ) as stream:  # fmt: skip
        clips = [clip for step in stream.epoch(0) for m in step.micro_batches for clip in m if clip.index >= 0]
    assert {clip.index for clip in clips if clip.fault} == {0, 1, 2}
    assert {clip.fault.cause for clip in clips if clip.fault} == {"unreadable"}
    assert f"set/{shard.file}" not in server.requests[before:] and time.monotonic() - began < 20


def test_what_is_not_there(folder, server, cache, tmp_path):
    with pytest.raises(ValueError, match=r"found no manifest\.json"):
        ClipSet(f"{server.url}/nothing", "train", cache)
    with pytest.raises(ValueError, match="expected a cache"):
        ClipSet(f"{server.url}/set", "train")
    with pytest.raises(ValueError, match="nosuch"):
        ClipSet("nosuch://bucket/set", "train", cache)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "train/000001.tar").unlink()
    with serving(tmp_path) as other, pytest.raises(FileNotFoundError):
        cache.fetch(f"{other.url}/copy", shard_of(folder, 1))
    assert other.requests.count("copy/train/000001.tar") == 1  # a second attempt would not help


def test_the_cache_stays_within_its_bound(folder, server, tmp_path):
    sizes = [shard_of(folder, n).bytes for n in range(6)]
    bound = sum(sorted(sizes)[-3:]) + 20_000
    with ShardCache(tmp_path / "small", bound, timeout=5) as cache:
        for epoch in range(3):
            for number in range(6):
                cache.fetch(f"{server.url}/set", shard_of(folder, number))
                total = sum(path.stat().st_size for path in files(cache))
                assert total <= bound
            assert epoch or len(files(cache, "tar")) >= 2
        # The one just used stays, the least recently used goes.
        cache.fetch(f"{server.url}/set", shard_of(folder, 5))
        count = len(server.requests)
        cache.fetch(f"{server.url}/set", shard_of(folder, 5))
        assert len(server.requests) == count
        assert sorted(ids(ClipSet(f"{server.url}/set", "train", cache), window=6)) == sorted(
            f"toy-{n}" for n in range(TOTAL)
        )


def test_next_shards_are_fetched_ahead(folder, server, cache):
    clips = ClipSet(f"{server.url}/set", "train", cache)
    with ClipStream(
        clips, seed=3, batch_size=1, micro_batch_size=1, workers=0, video=False, window=1, prefetch=1
    ) as stream:
        steps = stream.epoch(0)
        next(steps)
        following = stream.order.shards_from(0, 0, 2).tolist()
        wait_until(lambda: all(cache.path(clips._entries[shard][1]).exists() for shard in following))


FETCH = """
import sys
import shards.remote
shards.remote.PIECE = 20_000
from shards.cache import ShardCache
from shards.manifest import read_manifest
url, folder, where, *numbers = sys.argv[1:]
with ShardCache(where, 1 << 30, timeout=50) as cache:
    for number in map(int, numbers):
        shard = read_manifest(folder).splits["train"].shards[number]
        print(cache.fetch(url, shard).stat().st_size == shard.bytes)
"""


def test_processes_share_one_cache(folder, server, tmp_path):
    """Four processes want the same six shards at once: each is fetched once."""
    command = [sys.executable, "-c", FETCH, f"{server.url}/set", str(folder), str(tmp_path / "cache"), *"012345"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["True\n" * 6] * 4
    pieces = sum(-(-shard_of(folder, number).bytes // 20_000) for number in range(6))
    assert len(server.requests) == pieces


def test_a_process_that_is_killed_while_fetching_holds_nobody_up(folder, server, tmp_path):
    """Its lock is gone with it, and what it had fetched is not fetched again."""
    shard = shard_of(folder, 5)
    server.troubles[f"set/{shard.file}"] = ["", "", "", "stall"]
    command = [sys.executable, "-c", FETCH, f"{server.url}/set", str(folder), str(tmp_path / "cache"), "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_until(lambda: server.requests.count(f"set/{shard.file}") == 4)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)
    with ShardCache(tmp_path / "cache", 1 << 30, timeout=5) as cache:
        part = cache.path(shard).with_suffix(".part")
        assert part.stat().st_size >= 20_000 and not cache.path(shard).exists()
        had, count = part.stat().st_size, len(server.requests)
        assert cache.fetch(f"{server.url}/set", shard).stat().st_size == shard.bytes
        assert len(server.requests) - count == -(-(shard.bytes - had) // 30_000)
        assert not part.exists()


def test_leftovers_of_a_crash_do_no_harm(folder, server, cache):
    shard = shard_of(folder, 2)
    path = cache.path(shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_bytes(os.urandom(shard.bytes // 2))  # of another file, or damaged
    path.write_bytes(b"half")  # a disk that lost power and its last writes
    assert cache.fetch(f"{server.url}/set", shard).read_bytes() == (folder / shard.file).read_bytes()


def test_closing_does_not_wait_for_a_hanging_server(folder, server, tmp_path):
    cache = ShardCache(tmp_path / "cache", 1 << 30, timeout=1, attempts=100)
    shard = shard_of(folder, 0)
    server.troubles[f"set/{shard.file}"] = ["stall"] * 100
    failures = []

    def fetch():
        try:
            cache.fetch(f"{server.url}/set", shard)
        except RemoteError as error:
            failures.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    wait_until(lambda: f"set/{shard.file}" in server.requests)
    cache.close()
    thread.join(timeout=10)
    assert not thread.is_alive() and len(failures) == 1


def test_small_files_are_bounded(folder, server):
    remote = Remote(f"{server.url}/set", timeout=5)
    whole = (folder / "manifest.json").read_bytes()
    assert remote.read("manifest.json", len(whole)) == whole
    with pytest.raises(RemoteError, match="at most 100 bytes"):
        remote.read("manifest.json", 100)


@pytest.mark.slow
def test_an_s3_server(folder, cache, monkeypatch):
    """moto's server speaks S3 over HTTP; s3fs reads it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        import boto3

        store = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        store.create_bucket(Bucket="clips")
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix != ".idx":
                store.upload_file(str(path), "clips", f"set/{path.relative_to(folder)}")
        assert ids(ClipSet("s3://clips/set", "train", cache)) == ids(ClipSet(folder, "train"))
        with pytest.raises(ValueError, match=r"no manifest\.json"):
            ClipSet("s3://clips/nothing", "train", cache)
        store.delete_object(Bucket="clips", Key="set/train/000003.tar")
        cache.path(shard_of(folder, 3)).unlink()
        with pytest.raises(FileNotFoundError):
            cache.fetch("s3://clips/set", shard_of(folder, 3))
    finally:
        server.stop()
