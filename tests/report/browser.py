"""A real browser for the page: Debian's chromium through chromedriver's HTTP interface, no further package needed."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
KEYS = {"tab": "\ue004", "enter": "\ue007", "space": " ", "down": "\ue015"}


def missing() -> str | None:
    """Why there is no browser here, or None."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(lacking)} not installed (apt-get install chromium chromium-driver)" if lacking else None


class Browser:
    """One window. A context manager; on leaving, its processes have ended."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={port}", "--log-level=OFF"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._base = f"http://127.0.0.1:{port}"
        self._path = ""
        try:
            self._wait()
            options = {"args": [*ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]}
            wanted = {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
                "timeouts": {"script": 30_000, "pageLoad": 120_000},
            }
            answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._path = f"/session/{answer['sessionId']}"
        except BaseException:
            self._driver.kill()
            self._driver.wait()
            raise

    def open(self, url: str) -> None:
        """Load a page."""
        self._ask("POST", f"{self._path}/url", {"url": url})

    def script(self, code: str, *arguments: Any) -> Any:
        """Run the body of a function in the page; returns what it returns."""
        return self._ask("POST", f"{self._path}/execute/sync", {"script": code, "args": list(arguments)})

    def press(self, *keys: str) -> None:
        """Press and release keys, one after the other: names of KEYS or single characters."""
        actions = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        body = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        self._ask("POST", f"{self._path}/actions", body)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Size of the viewport in CSS pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone},
        )

    def devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        """A command of the DevTools protocol."""
        return self._ask("POST", f"{self._path}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """PNG of the viewport, or of the whole page."""
        answer = self.devtools("Page.captureScreenshot", {"captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def console(self) -> list[str]:
        """Messages since the last call: errors, warnings, refused by the page's policy."""
        return [entry["message"] for entry in self._ask("POST", f"{self._path}/se/log", {"type": "browser"})]

    def close(self) -> None:
        """End the browser and its driver."""
        try:
            if self._path:
                self._ask("DELETE", self._path)
        finally:
            self._driver.terminate()
            self._driver.wait(timeout=30)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                if self._ask("GET", "/status")["ready"]:
                    return
            except (urllib.error.URLError, ConnectionError):
                if self._driver.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("chromedriver did not start") from None
            time.sleep(0.1)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise RuntimeError(f"{value.get('error')}: {value.get('message')}") from None
