"""Serve a student over HTTP on this machine.

    python launch/serve.py --student runs/sample/student
    curl -s 127.0.0.1:8000/predict -H 'content-type: application/json' -d '{"texts": ["what a day", "never again"]}'
    curl -s 127.0.0.1:8000/health

Answers {"predictions": [{"sentiment": 0.9, "cut": false}, …]} in the order of the texts, or {"error": "…"} with a 4xx
status. Requests that come together are computed together. SIGTERM or Ctrl-C: those taken are finished, then it ends
with exit code 0.
"""

from __future__ import annotations

from _command import FINE, Parser, run

ENGINE = "auto takes onnxruntime where it can be had, else torch; int8 is faster still and a little less exact"


def main() -> int:
    """Parse, serve."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--student", required=True, metavar="FOLDER", help="student folder, exported folder, or run folder"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one")
    parser.add_argument("--engine", default="auto", choices=("auto", "torch", "onnx", "int8"), help=ENGINE)
    parser.add_argument("--threads", type=int, help="batches computed side by side (default: one per core)")
    parser.add_argument("--body-bytes", type=int, default=2**20, help="bytes of the largest body")
    parser.add_argument("--texts", type=int, default=256, help="texts in one request")
    parser.add_argument("--waiting-texts", type=int, default=4096, help="texts that may wait")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second and client; 0 sets no limit")
    parser.add_argument("--burst", type=int, default=200, help="requests at once after a pause")
    options = parser.parse_args()

    from vadv.student.service.limits import Limits
    from vadv.student.service.run import serve

    limits = Limits(
        body_bytes=options.body_bytes,
        texts=options.texts,
        waiting_texts=options.waiting_texts,
        rate=options.rate,
        burst=options.burst,
    )
    serve(
        options.student,
        host=options.host,
        port=options.port,
        engine=options.engine,
        threads=options.threads,
        limits=limits,
    )
    return FINE


if __name__ == "__main__":
    run(main)
