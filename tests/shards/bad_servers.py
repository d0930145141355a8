"""A real HTTP server for tests that can be told to misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """Serves `root`; `troubles` maps a path to a list of what to do with its next GET requests.

    A trouble is one of: drop (close in the middle of the body), stall (send half and nothing more), damage (a flipped
    byte), error (500), busy (503), short (a body that ends early but says so).
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, root: Path, ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.ranges = root, ranges
        self.troubles: dict[str, list[str]] = {}
        self.requests: list[str] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.requests.append(name)
        path = self.server.root / name
        if not path.is_file():
            self.send_error(404)
            return
        waiting = self.server.troubles.get(name, [])
        trouble = waiting.pop(0) if waiting and self.command == "GET" else ""
        if trouble in ("error", "busy"):
            self.send_error(500 if trouble == "error" else 503)
            return
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        status = 200
        if wanted and self.server.ranges:
            first, last = wanted.removeprefix("bytes=").split("-")
            start = int(first)
            if start >= len(data):
                self.send_error(416)
                return
            body = data[start : int(last) + 1 if last else None]
            status = 206
        else:
            start, body = 0, data
        if trouble == "damage":
            body = body[:1000] + bytes([body[1000] ^ 1]) + body[1001:]
        if trouble == "short":
            body = body[: len(body) // 2]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if trouble in ("drop", "stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if trouble == "stall":
                self.server.stopping.wait(60)
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)


@contextmanager
def serving(root: Path, ranges: bool = True) -> Iterator[Server]:
    """A server on a free port for as long as the block lasts."""
    server = Server(root, ranges)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()


def wait_until(condition, seconds: float = 20.0) -> None:
    """Poll until `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
