"""Benchmarks: what, value, unit, ratio to the limit or the peer.

    python launch/bench.py order
    python launch/bench.py pipeline --json pipeline.json
    python launch/bench.py predict --student runs/sample/student --json predict.json

Each benchmark has options of its own: python launch/bench.py step --help
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from _command import FINE, Parser, run

COMMANDS = {
    "checkpoint": "what a checkpoint costs a run",
    "features": "the cache of frozen features against the disk, and epochs with it against epochs without",
    "memory": "memory that --plan predicts against what training takes",
    "order": "position to sample for a billion samples",
    "peers": "training a student alone against the Hugging Face Trainer, and frozen CLIP against open_clip",
    "pipeline": "shards to frames: our stream against its limit and its peers",
    "predict": "texts per second against transformers' pipeline",
    "scaling": "one rank against several, and what ranks send each other",
    "serve": "the HTTP service under concurrent clients",
    "start": "from the command to the first step",
    "step": "a training step against bare DeepSpeed and PyTorch loops, and where its time goes",
}
"""Each is a module of vadv.bench with add_options(parser) and run(options) -> rows."""


def main() -> int:
    """Parse, measure, print."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="BENCHMARK")
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        command.add_argument("--json", metavar="FILE", help="also write the rows there")
        importlib.import_module(f"vadv.bench.{name}").add_options(command)
    options = parser.parse_args()

    from vadv.bench.table import as_json, as_text

    rows = importlib.import_module(f"vadv.bench.{options.command}").run(options)
    print(as_text(rows))
    if options.json:
        Path(options.json).write_text(json.dumps(as_json(rows), indent=1) + "\n", encoding="utf-8")
    return FINE


if __name__ == "__main__":
    run(main)
