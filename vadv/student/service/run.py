"""`launch/serve.py`: the service in a uvicorn server that stops when told to."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import sys

from vadv.student.engines import choose_engine
from vadv.student.folder import open_student
from vadv.student.predictor import Predictor
from vadv.student.service.limits import Limits

GRACE = 20
"""Seconds that requests already taken may need after SIGTERM."""


def serve(
    student: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    engine: str = "auto",
    threads: int | None = None,
    limits: Limits,
) -> None:
    """Answer until SIGTERM or SIGINT; then take no more requests, finish those taken, and return.

    Args:
        student: folder.
        host: address to listen on.
        port: 0 takes a free one. The address is printed on standard error once it listens.
        engine: as `choose_engine`.
        threads: batches computed side by side; default: one per core.
        limits: bounds.

    Raises:
        ValueError, OSError: wrong student or address, address in use, or the packages are missing.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"--threads: expected at least 1, found {threads}")
    try:
        import uvicorn

        from vadv.student.service.app import build_app
    except ImportError as error:
        raise ValueError(f"{error}: pip install 'videoadviser[serve,onnx]'") from error
    listening = _listen(host, port)
    found = open_student(student)
    app = build_app(Predictor(found, choose_engine(found, engine), threads), limits)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        use_colors=False,
        server_header=False,
        limit_concurrency=limits.concurrency,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE,
        ws="none",
    )
    server = uvicorn.Server(config)
    # uvicorn passes the signal on when it has stopped; stopping when told to is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    asyncio.run(_serve(server, listening))


async def _serve(server: object, listening: socket.socket) -> None:
    import uvicorn

    assert isinstance(server, uvicorn.Server)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not running.done():
        await asyncio.sleep(0.02)
    if server.started:
        host, port = listening.getsockname()[:2]
        print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}", file=sys.stderr, flush=True)
    await running
    print("stopped", file=sys.stderr, flush=True)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:  # the resolver would take it modulo 65536
        raise ValueError(f"--port: expected 0 to 65535, found {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(found[0], found[1])
        # asyncio does so for sockets that it opens. Without it an answer's body waits for the client's acknowledgement
        # of its head, which comes 40 ms late.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(found[4])
        listening.listen(1024)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(
            f"--host {host} --port {port}: expected an address that is free, found: {why}; --port 0 takes a free one"
        ) from error
    if not ipaddress.ip_address(listening.getsockname()[0]).is_loopback:
        print(
            f"warning: {host} can be reached from other machines, and this service has neither passwords nor "
            "encryption; put a proxy that has them in front",
            file=sys.stderr,
        )
    return listening
