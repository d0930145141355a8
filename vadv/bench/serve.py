"""The HTTP service under real concurrent clients, on this machine's loopback address only, bounded in count and time."""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from vadv.bench.table import Row

HOST = "127.0.0.1"
SERVER = """
import sys
from vadv.student.service.limits import Limits
from vadv.student.service.run import serve
serve(sys.argv[1], port=0, engine=sys.argv[2], limits=Limits(rate=0))
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--student", required=True, help="student folder")
    parser.add_argument("--engine", default="auto", help="auto, torch, onnx or int8 (default: auto)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="at once (default: 1 8 32)")
    parser.add_argument("--requests", type=int, default=2000, help="per number of clients (default: 2000)")
    parser.add_argument("--seconds", type=float, default=60, help="per number of clients, at most (default: 60)")


@dataclass
class _Found:
    seconds: list[float] = field(default_factory=list)
    """Per answered request, from sending to the whole answer."""
    failed: int = 0
    took: float = 0.0
    batches: int = 0


def run(options: argparse.Namespace) -> list[Row]:
    """Measure requests of one rated sentence each.

    Returns:
        per number of clients: requests per second, ratio to one client, latencies, texts per batch, failures.
    """
    from vadv.bench.predict import rated

    texts = [text for text, _, _ in rated() if text.strip()]
    rows: list[Row] = []
    with _server(options.student, options.engine) as port:
        _load(port, texts, 4, 100, 30)
        for clients in options.clients:
            found = _load(port, texts, clients, options.requests, options.seconds)
            rate = len(found.seconds) / found.took
            row = Row(f"{clients} clients", rate, "requests/s")
            if rows:
                row.ratio, row.to = rate / rows[0].value, rows[0].what
            for share in (50, 95, 99):
                row.more[f"p{share} ms"] = round(1000 * float(np.percentile(found.seconds, share)), 1)
            row.more["texts/batch"] = round(len(found.seconds) / max(1, found.batches), 1)
            row.more["requests"], row.more["failed"] = len(found.seconds), found.failed
            rows.append(row)
    return rows


@contextmanager
def _server(student: str, engine: str) -> Iterator[int]:
    """The port of a service that listens, stopped at the end."""
    command = [sys.executable, "-c", SERVER, student, engine]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            line = process.stderr.readline()
            if not line.startswith("listening on"):
                said = (line + process.stderr.read()).strip().splitlines()
                raise ValueError(f"the service did not start: {said[-1] if said else 'it said nothing'}")
            yield int(line.rpartition(":")[2])
            process.terminate()
            if process.wait(60):
                raise ValueError(f"the service ended with {process.returncode}: {process.stderr.read()[-300:]}")
        finally:
            if process.poll() is None:
                process.kill()


def _load(port: int, texts: list[str], clients: int, requests: int, seconds: float) -> _Found:
    """`requests` requests from `clients` threads, each with a connection of its own that it keeps."""
    found = _Found(batches=-_batches(port))
    lock = threading.Lock()
    numbers = itertools.count()
    start = time.perf_counter()

    def client() -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=60)
        took: list[float] = []
        failed = 0
        while (number := next(numbers)) < requests and time.perf_counter() - start < seconds:
            body = json.dumps({"texts": [texts[number % len(texts)]]}).encode()
            sent = time.perf_counter()
            try:
                connection.request("POST", "/predict", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                ok = answer.status == 200 and len(json.loads(answer.read())["predictions"]) == 1
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                ok = False
                connection.close()
            took += [time.perf_counter() - sent] if ok else []
            failed += not ok
        connection.close()
        with lock:
            found.seconds += took
            found.failed += failed

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.took = time.perf_counter() - start
    found.batches += _batches(port)
    if not found.seconds:
        raise ValueError(f"expected answers from the service, found {found.failed} failures")
    return found


def _batches(port: int) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    connection.request("GET", "/health")
    count = int(json.loads(connection.getresponse().read())["batches"])
    connection.close()
    return count
