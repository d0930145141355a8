"""The HTTP service: answers, limits, batching and stopping, over real sockets on this machine."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_students import MAX_TOKENS, ROOT, run

from vadv.student.engines import choose_engine
from vadv.student.folder import open_student
from vadv.student.predictor import Predictor
from vadv.student.service.limits import CLIENTS, Rate

JSON = {"content-type": "application/json"}


class Service:
    """A running launch/serve.py."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] = JSON) -> tuple[int, Any, Any]:
        """Status, decoded body, headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null"), answer.headers
        finally:
            connection.close()

    def predict(self, *texts: str) -> tuple[int, Any, Any]:
        return self.ask("POST", "/predict", {"texts": list(texts)})


@contextmanager
def serving(student: Path, *options: str) -> Iterator[Service]:
    command = [sys.executable, str(ROOT / "launch" / "serve.py"), "--student", str(student), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        line = process.stderr.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line
        yield Service(process, int(line.rpartition(":")[2]))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def service(bert: Path) -> Iterator[Service]:
    with serving(bert, "--rate", "0", "--body-bytes", "20000", "--texts", "50") as found:
        yield found


def test_answers_in_order_with_the_predictors_numbers(service: Service, bert: Path, mixed: list[str]) -> None:
    opened = open_student(bert)
    expected = Predictor(opened, choose_engine(opened, "onnx")).predict(mixed[:50])
    status, found, _ = service.predict(*mixed[:50])
    assert status == 200
    np.testing.assert_allclose([p["sentiment"] for p in found["predictions"]], expected, atol=1e-5)
    assert service.predict("good " * 100)[1]["predictions"][0]["cut"] is True


def test_health(service: Service) -> None:
    status, found, _ = service.ask("GET", "/health")
    assert status == 200 and found["status"] == "ok" and found["max_tokens"] == MAX_TOKENS


@pytest.mark.parametrize(
    ("body", "headers", "status", "told"),
    [
        (b"{broken", JSON, 422, "expected JSON"),
        ([1], JSON, 422, 'expected {"texts": ["…", …]}'),
        ({"text": "a"}, JSON, 422, "texts: Field required"),
        ({"texts": []}, JSON, 422, "at least 1 item"),
        ({"texts": [1]}, JSON, 422, "texts.0: Input should be a valid string"),
        ({"texts": ["a"], "more": 1}, JSON, 422, "more: Extra inputs"),
        ({"texts": ["a", " "]}, JSON, 422, "texts[1]: expected a text, found an empty one"),
        ({"texts": ["a\0"]}, JSON, 422, "texts[0]: expected a text, found a NUL byte"),
        (b'{"texts": ["\\ud800"]}', JSON, 422, "half of a surrogate pair"),
        (b"\xff\xfe", JSON, 422, ""),
        (b"[" * 15000, JSON, 400, "parsing the body"),
        ({"texts": ["a"] * 51}, JSON, 413, "expected at most 50 in a request, found 51"),
        ({"texts": ["a" * 20000]}, JSON, 413, "expected at most 20000 bytes in a body, found 20015"),
        ({"texts": ["a"]}, {"content-type": "text/plain"}, 415, "expected the content-type application/json"),
    ],
)
def test_mistakes_get_a_clear_4xx(service: Service, body: Any, headers: dict[str, str], status: int, told: str) -> None:
    found, answer, _ = service.ask("POST", "/predict", body, headers)
    assert found == status
    assert told in answer["error"] and "\n" not in answer["error"]
    assert service.predict("good")[0] == 200


def test_unknown_routes_and_methods(service: Service) -> None:
    assert service.ask("GET", "/nothing")[0] == 404
    assert service.ask("GET", "/predict")[0] == 405
    assert service.ask("GET", "/docs")[0] == 404, "its page would load scripts from elsewhere"


def test_a_body_without_length_is_bounded_too(service: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("POST", "/predict", iter([b"x" * 10_000] * 3), JSON, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_concurrent_clients_share_batches(service: Service, mixed: list[str]) -> None:
    before = service.ask("GET", "/health")[1]["batches"]
    answers: dict[int, list[tuple[int, Any]]] = {}

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        for i in range(20):
            text = mixed[(number * 20 + i) % len(mixed)]
            connection.request("POST", "/predict", json.dumps({"texts": [text]}).encode(), JSON)
            answer = connection.getresponse()
            answers.setdefault(number, []).append((answer.status, json.loads(answer.read())))
        connection.close()

    threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [a for n in range(16) for a in answers[n]]
    assert [status for status, _ in got] == [200] * 320
    expected = service.predict(*mixed[:50])[1]["predictions"]
    np.testing.assert_allclose(
        [a["predictions"][0]["sentiment"] for _, a in got[:50]], [p["sentiment"] for p in expected], atol=1e-5
    )
    assert service.ask("GET", "/health")[1]["batches"] - before < 320


def test_rate_is_limited_per_client(bert: Path) -> None:
    with serving(bert, "--rate", "0.01", "--burst", "3") as service:
        found = [service.predict("good") for _ in range(5)]
        assert [status for status, _, _ in found] == [200, 200, 200, 429, 429]
        assert int(found[-1][2]["retry-after"]) > 50
        assert service.ask("GET", "/health")[0] == 200


def test_rate_refills_and_forgets() -> None:
    now = 0.0
    rate = Rate(2.0, 4, lambda: now)
    assert [rate.wait("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert rate.wait("b") == 0
    now = 0.5
    assert [rate.wait("a"), rate.wait("a")] == [0, 0.5]
    for client in range(CLIENTS + 5):
        rate.wait(str(client))
    assert len(rate._buckets) == CLIENTS


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_finishes_what_it_has_taken(bert: Path, how: signal.Signals) -> None:
    with serving(bert) as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        body = json.dumps({"texts": ["good"]}).encode()
        # The request is under way when the signal comes: its headers are sent, its body is not.
        connection.putrequest("POST", "/predict")
        for name, value in {**JSON, "content-length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        time.sleep(0.2)  # for the server to read the headers; it answers a late body all the same
        service.process.send_signal(how)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:  # no new connections
            try:
                socket.create_connection(("127.0.0.1", service.port), timeout=5).close()
            except ConnectionRefusedError:
                break
            except ConnectionResetError:  # in the queue of the socket as that was closed
                continue
        else:
            pytest.fail("still takes connections after the signal")
        connection.send(body)
        answer = connection.getresponse()
        assert answer.status == 200 and len(json.loads(answer.read())["predictions"]) == 1
        assert service.process.wait(30) == 0
        assert service.process.stderr and service.process.stderr.read() == "stopped\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--port", "99999"], "--port: expected 0 to 65535, found 99999"),
        (["--rate", "-1"], "--rate: expected 0 or more"),
        (["--texts", "0"], "--texts: expected more than 0"),
        (["--student", "nowhere"], "nowhere: expected a student folder, found nothing"),
    ],
)
def test_mistakes_on_the_command_line(bert: Path, options: list[str], told: str) -> None:
    found = run("serve.py", "--student", str(bert), "--port", "0", *options)
    assert found.returncode == 2 and told in found.stderr.decode() and found.stderr.count(b"\n") == 1


def test_a_port_in_use_is_told(bert: Path, service: Service) -> None:
    found = run("serve.py", "--student", str(bert), "--port", str(service.port))
    assert found.returncode == 2 and b"expected an address that is free" in found.stderr
