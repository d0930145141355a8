"""Reading files of an object store or web server through fsspec, with patience but not without end.

Files are read in pieces, each with its own time limit, so that a stalled connection is noticed and a broken one goes
on where it broke. Attempts are repeated with growing pauses for as long as there is progress.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

log = logging.getLogger(__name__)

PIECE = 8 << 20
"""Bytes asked for at a time."""
FIRST_PAUSE = 0.5
"""Seconds before the second attempt; each later pause is twice as long, up to `LONGEST_PAUSE`."""
LONGEST_PAUSE = 30.0


class RemoteError(OSError):
    """A remote file could not be read after all attempts, or is not what it should be."""


def is_remote(folder: str) -> bool:
    """Whether a folder is named by a URL."""
    return "://" in folder


def local_path(folder: str) -> str:
    """A `file://` URL as the path that it names; anything else as it is."""
    if not folder.startswith("file://"):
        return folder
    return url2pathname(urlsplit(folder).path)


class Remote:
    """A remote folder."""

    def __init__(self, url: str, timeout: float = 60.0, attempts: int = 6) -> None:
        """Find the file system of a URL.

        Args:
            timeout: seconds that one piece may take.
            attempts: tries without any progress before a file is given up.

        Raises:
            ValueError: the protocol is unknown, or the package that it needs is not installed.
        """
        from fsspec.core import url_to_fs

        self.url, self.timeout, self.attempts = url.rstrip("/"), timeout, attempts
        self._closing = threading.Event()
        try:
            self._files, self._path = url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{url}: {error}; for s3:// and https:// install videoadviser[remote]") from error

    def close(self) -> None:
        """Have reads that are under way give up at their next pause or piece."""
        self._closing.set()

    def read(self, file: str, limit: int) -> bytes:
        """A small file as a whole.

        Raises:
            FileNotFoundError: it is not there.
            RemoteError: it cannot be read, or has more than `limit` bytes.
        """
        data = b"".join(self.pieces(file, 0, limit + 1, whole=False))
        if len(data) > limit:
            raise RemoteError(f"{self.url}/{file}: expected at most {limit} bytes, found more")
        return data

    def pieces(self, file: str, start: int, stop: int, whole: bool = True) -> Iterator[bytes]:
        """The bytes of a file from start to stop, in order.

        Args:
            whole: ending before `stop` is an error and not the end of the file.

        Raises:
            FileNotFoundError: it is not there.
            RemoteError: it cannot be read.
        """
        attempt = 0
        while start < stop:
            try:
                data = self._piece(file, start, min(stop, start + PIECE))
                if len(data) == 0 and whole:
                    raise OSError(f"the file ends {stop - start} bytes too early")
            except (FileNotFoundError, PermissionError):
                raise
            except Exception as error:
                if start and not whole and any(sign in str(error) for sign in ("416", "InvalidRange")):
                    return  # It ends exactly where this piece would begin.
                # What a connection can raise is the business of five libraries; every kind is worth a second attempt.
                attempt += 1
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
                if attempt >= self.attempts or self._closing.is_set():
                    raise RemoteError(f"{self.url}/{file}: given up after {attempt} attempts: {reason}") from error
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1))
                log.warning("%s/%s: %s; next attempt in %g s", self.url, file, reason, pause)
                self._closing.wait(pause)
                continue
            attempt = 0
            if not data:
                return
            yield data
            if len(data) < PIECE and not whole:
                return
            start += len(data)

    def _piece(self, file: str, start: int, stop: int) -> bytes:
        from fsspec.asyn import AsyncFileSystem, sync

        path = f"{self._path}/{file}"
        data: Any
        if isinstance(self._files, AsyncFileSystem):
            data = sync(self._files.loop, self._files._cat_file, path, start=start, end=stop, timeout=self.timeout)
        else:
            data = self._files.cat_file(path, start=start, end=stop)
        if len(data) > stop - start:
            # A web server that knows no ranges sends the file from its beginning.
            data = data[start:]
        return bytes(data)
