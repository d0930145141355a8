"""What a client may ask for: bytes of a body, seconds to send it, requests per second."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

CLIENTS = 10_000
"""Addresses whose rate is remembered; the one unseen for longest is forgotten first."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the service."""

    body_bytes: int = 2**20
    """Bytes of one request's body."""
    texts: int = 256
    """Texts in one request."""
    waiting_texts: int = 4096
    """Texts that wait over all requests; more are told to come back."""
    rate: float = 100.0
    """Requests per second and client address, on average; 0 for no limit."""
    burst: int = 200
    """Requests that a client may send at once after a pause."""
    body_seconds: float = 10.0
    """Time for a client to send its body."""
    concurrency: int = 512
    """Connections at once."""

    def __post_init__(self) -> None:
        for name in ("body_bytes", "texts", "waiting_texts", "burst", "body_seconds", "concurrency"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{name.replace('_', '-')}: expected more than 0, found {getattr(self, name)}")
        if self.rate < 0:
            raise ValueError(f"--rate: expected 0 or more requests per second, found {self.rate}")


class Rate:
    """A token bucket per client address."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Take a token. 0 when there was one, else the seconds until there is."""
        if not self._rate:
            return 0.0
        now = self._clock()
        tokens, seen = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - seen) * self._rate)
        missing = max(0.0, 1 - tokens)
        self._buckets[client] = (tokens if missing else tokens - 1, now)
        while len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return missing / self._rate


class LimitsMiddleware:
    """Refuses before anything is parsed: the rate (429), the kind of body (415), its size (413), its slowness (408)."""

    def __init__(self, app: App, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._rate = Rate(limits.rate, limits.burst)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await self._app(scope, receive, send)
        wait = self._rate.wait((scope.get("client") or ("",))[0])
        if wait:
            seconds = max(1, math.ceil(wait))
            return await refuse(send, 429, f"at most {self._limits.rate:g} requests per second; try again", seconds)
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            # Also what keeps web pages of other origins out: a browser asks before it sends this type elsewhere.
            return await refuse(send, 415, "expected the content-type application/json")
        length = headers.get(b"content-length", b"0")
        too_long = f"at most {self._limits.body_bytes} bytes in a body"
        if not length.isdigit() or int(length) > self._limits.body_bytes:
            return await refuse(send, 413, f"expected {too_long}, found {length.decode('latin-1')[:20]}")
        body = b""
        more = True
        deadline = time.monotonic() + self._limits.body_seconds
        while more:
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                return await refuse(send, 408, f"expected the body within {self._limits.body_seconds:g} seconds")
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limits.body_bytes:
                return await refuse(send, 413, f"expected {too_long}, found more")
        read = False

        async def replay() -> Message:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._app(scope, replay, send)


async def refuse(send: Send, status: int, why: str, retry_after: int | None = None) -> None:
    """Answer with an error in the service's form and close the connection: the rest of the body is not read."""
    body = json.dumps({"error": why}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
