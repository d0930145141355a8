"""A model hub on this machine: what huggingface_hub asks of huggingface.co, for folders of files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves ROOT/OWNER/NAME as the repository OWNER/NAME."""

    root: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0].strip("/")
        self.asked.append(path)
        about = path.startswith("api/models/")
        owner, name, kind, _, *rest = [*path.removeprefix("api/models/").split("/"), *[""] * 4]
        folder, file = self.root / owner / name, "/".join(filter(None, rest))
        name = f"{owner}/{name}"
        if not folder.is_dir():
            self._send(404, b"", body, error="RepoNotFound")
        elif about and kind in ("", "revision"):
            files = [{"rfilename": entry.name} for entry in folder.iterdir()]
            content = {"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "tags": [], "private": False}
            self._send(200, json.dumps(content).encode(), body)
        elif file and (folder / file).is_file():
            self._send(200, (folder / file).read_bytes(), body)
        else:
            self._send(404, b"", body, error="EntryNotFound")

    def _send(self, status: int, content: bytes, body: bool, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Address of a hub of the folders below `root`, and what it is asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Hub,), {"root": root, "asked": asked}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
