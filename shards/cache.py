"""A bounded cache of remote shards on a local disk, shared by all processes of a machine.

A shard is kept under its SHA-256, which the manifest tells: what has that name has been compared with it on arrival.
Files appear under their name by a rename, after their bytes are on the disk, so that a crash leaves at most a `.part`
file, with which the next attempt goes on. The index is made in the same pass that checks the checksum. A lock lets one
process fetch a shard while the others wait; the kernel drops it when its holder dies. When the cache is full, the
shards that were not used for the longest time go; one that is still open somewhere stays readable until it is closed,
as deleted files do.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from shards.durable import sync_folder
from shards.index import ShardIndex, index_path
from shards.manifest import MAX_BYTES, Manifest, Shard, parse_manifest
from shards.remote import Remote, RemoteError

log = logging.getLogger(__name__)

THREADS = 4
"""Shards fetched at once in the background."""
FORGIVEN = 120.0
"""Seconds until a shard that could not be fetched is tried again: its other samples are not made to wait as well."""
_CHECKED = 2
"""Times that a shard with a wrong checksum is fetched in all."""


class ShardCache:
    """Remote shards on a local disk."""

    def __init__(
        self, folder: str | os.PathLike[str], max_bytes: int, timeout: float = 60.0, attempts: int = 6
    ) -> None:
        """Use a folder as the cache, which may be there already and in use by others.

        Args:
            folder: on a local disk.
            max_bytes: bound on what is kept.
            timeout, attempts: see `Remote`.

        Raises:
            OSError: the folder cannot be made.
        """
        self.folder, self.max_bytes, self.timeout, self.attempts = Path(folder) / "shards", max_bytes, timeout, attempts
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remotes: dict[str, Remote] = {}
        self._failed: dict[str, tuple[float, OSError]] = {}
        self._wanted: deque[tuple[str, Shard]] = deque()
        self._state = threading.Condition()
        self._closing = False
        self._threads: list[threading.Thread] = []

    def close(self) -> None:
        """End fetching in the background; a read that hangs ends with its time limit."""
        with self._state:
            self._closing = True
            self._state.notify_all()
        for remote in self._remotes.values():
            remote.close()

    def __enter__(self) -> ShardCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def manifest(self, url: str) -> Manifest:
        """The manifest of a remote folder.

        Raises:
            ValueError: there is none, it is not a good one, or the protocol is unknown.
            OSError: it cannot be read.
        """
        try:
            data = self._remote(url).read("manifest.json", MAX_BYTES)
        except FileNotFoundError as error:
            raise ValueError(f"{url}: expected shards there, found no manifest.json") from error
        return parse_manifest(data, f"{url}/manifest.json")

    def fetch(self, url: str, shard: Shard) -> Path:
        """The local file of a shard, fetched when it is not there yet.

        Raises:
            FileNotFoundError: the remote folder does not have it.
            OSError: it cannot be fetched, or is not what the manifest says.
        """
        path = self.path(shard)
        if self._touch(path, shard):
            return path
        when, error = self._failed.get(shard.sha256, (-FORGIVEN, None))
        if error is not None and time.monotonic() - when < FORGIVEN:
            raise error
        path.parent.mkdir(exist_ok=True)
        lock = self._lock(path)
        try:
            if self._touch(path, shard):
                return path
            self._fetch(url, shard, path)
        except OSError as failure:
            self._failed[shard.sha256] = time.monotonic(), failure
            raise
        finally:
            lock.release()
        self._failed.pop(shard.sha256, None)
        return path

    def prefetch(self, wanted: Sequence[tuple[str, Shard]]) -> None:
        """Have shards fetched in the background, the first first; replaces what was wanted before."""
        with self._state:
            self._wanted = deque(wanted)
            while len(self._threads) < min(THREADS, len(self._wanted)):
                thread = threading.Thread(target=self._work, name="shard-cache", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._state.notify_all()

    def path(self, shard: Shard) -> Path:
        """Where a shard is kept."""
        return self.folder / shard.sha256[:2] / f"{shard.sha256}.tar"

    def _lock(self, path: Path) -> FileLock:
        """The lock that guards the making of a file, taken. One of 256: as many lock files stay in the cache at most."""
        lock = FileLock(self.folder / f"{path.parent.name}.lock")
        while not self._closing:
            try:
                lock.acquire(timeout=1)
                return lock
            except Timeout:
                # Another process fetches it, however long that takes.
                continue
        raise RemoteError(f"{path.name}: not fetched, the run ends")

    def _work(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._wanted or self._closing)
                if self._closing:
                    return
                url, shard = self._wanted.popleft()
            try:
                self.fetch(url, shard)
            except (OSError, ValueError) as error:
                # Whoever needs the shard meets the same error and reports it with its samples.
                log.warning("%s", error)

    @staticmethod
    def _touch(path: Path, shard: Shard) -> bool:
        """Whether a shard is here; if so it counts as used now."""
        try:
            if path.stat().st_size != shard.bytes:
                return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _fetch(self, url: str, shard: Shard, path: Path) -> None:
        part = path.with_suffix(".part")
        for check in range(1, _CHECKED + 1):
            self._download(url, shard, part)
            index = ShardIndex.build(part)
            if index.sha256 == shard.sha256:
                break
            part.unlink()
            log.warning("%s/%s: damaged on its way (SHA-256 %s...)", url, shard.file, index.sha256[:12])
            if check == _CHECKED:
                raise RemoteError(
                    f"{url}/{shard.file}: expected the manifest's SHA-256 {shard.sha256[:12]}..., found "
                    f"{index.sha256[:12]}... twice; the file there is damaged or not this data set's"
                )
        index.save(index_path(path))
        part.replace(path)
        sync_folder(path.parent)

    def _download(self, url: str, shard: Shard, part: Path) -> None:
        """Bring the .part file to the shard's size, going on with what is there of it."""
        with part.open("ab") as file:
            if file.tell() > shard.bytes:
                file.truncate(0)
            self._make_room(shard.bytes, part)
            for piece in self._remote(url).pieces(shard.file, file.tell(), shard.bytes):
                if self._closing:
                    raise RemoteError(f"{url}/{shard.file}: not fetched, the run ends")
                file.write(piece[: shard.bytes - file.tell()])
            file.flush()
            os.fsync(file.fileno())

    def _make_room(self, coming: int, keep: Path) -> None:
        """Remove the least recently used shards until `coming` more bytes fit."""
        with FileLock(self.folder / "eviction.lock"):
            found = []
            for path in self.folder.glob("*/*"):
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                if path.suffix in (".tar", ".part") and path != keep:
                    found.append((status.st_mtime, status.st_size, path))
                if path != keep:
                    coming += status.st_size
            for _, size, path in sorted(found):
                if coming <= self.max_bytes:
                    break
                if self._remove(path):
                    coming -= size
        if coming > self.max_bytes:
            log.warning(
                "data.cache_bytes: %d bytes are less than what is being fetched at once (%d)", self.max_bytes, coming
            )

    def _remove(self, path: Path) -> bool:
        """Remove a shard, or what is left of an attempt to fetch one; False while someone is at work on it."""
        lock = FileLock(self.folder / f"{path.parent.name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        try:
            path.unlink(missing_ok=True)
            index_path(path).unlink(missing_ok=True)
        finally:
            lock.release()
        return True

    def _remote(self, url: str) -> Remote:
        if url not in self._remotes:
            self._remotes[url] = Remote(url, self.timeout, self.attempts)
        return self._remotes[url]
