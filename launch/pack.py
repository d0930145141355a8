"""Pack a dataset's raw clips into shards for training.

    python launch/pack.py mmsa --root data/MOSI --out data/mosi
    python launch/pack.py csv --root my-clips --out data/my-shards
    python launch/pack.py sample --out data/sample-shards

The same command goes on where an interrupted one stopped, and does nothing once everything is there.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from _command import FINE, NOT_FINE, Parser, run

from shards.pack import Options, pack
from shards.packed_form import Coding
from shards.sources import sources

MADE = ("sample", "sample-events")
"""Sources that make their corpus; without --root it lies beside the shards."""


def main() -> int:
    """Parse, pack, print."""
    options = parse()
    if not 0 <= options.max_rejected <= 1:
        raise ValueError(f"--max-rejected: expected a share from 0 to 1, found {options.max_rejected:g}")
    logging.basicConfig(format="pack.py: %(message)s")
    source = sources()[options.source](**{name: getattr(options, name) for name in options.source_options})
    coding = Coding(
        mode=options.mode, frame_size=options.frame_size, frames=options.frames, quantizer=options.quantizer
    )
    summary = pack(
        source,
        options.out,
        Options(
            coding=coding,
            openface=options.openface,
            fer_onnx=options.fer_onnx,
            shard_clips=options.shard_clips,
            workers=options.workers,
            clip_timeout=options.clip_timeout,
        ),
    )
    print(summary.table())
    if summary.rejected_share > options.max_rejected:
        share = f"{100 * summary.rejected_share:.2f} %"
        print(
            f"pack.py: rejected {share} of the rows, more than --max-rejected {options.max_rejected}", file=sys.stderr
        )
        return NOT_FINE
    return FINE


def parse() -> argparse.Namespace:
    """A subcommand per source; the fields of its dataclass are its options."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, source in sources().items():
        about = (source.__doc__ or "").strip().splitlines()[0].replace("%", "%%")
        command = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        add_source_options(command, source, made=name in MADE)
        add_common_options(command)
    options = parser.parse_args()
    if options.source in MADE and options.root is None:
        options.root = options.out.parent / options.source
    return options


def add_source_options(command: argparse.ArgumentParser, source: type, made: bool) -> None:
    hints = get_type_hints(source)
    names = []
    for item in fields(source):
        if not item.init:
            continue
        names.append(item.name)
        kind = next((k for k in (Path, float, int) if k.__name__ in str(hints[item.name])), str)
        how: dict[str, Any] = {"type": kind, "help": item.metadata.get("help", "")}
        if hints[item.name] is bool:
            how = {"action": "store_true", "help": how["help"]}
        required = item.default is MISSING and not made
        default = None if item.default is MISSING else item.default
        command.add_argument("--" + item.name.replace("_", "-"), required=required, default=default, **how)
    command.set_defaults(source_options=names)


def add_common_options(command: argparse.ArgumentParser) -> None:
    coding, options = Coding(), Options()
    add = command.add_argument
    add("--out", type=Path, required=True, metavar="FOLDER", help="folder for the shards")
    add(
        "--mode",
        choices=["transcode", "keep"],
        default=coding.mode,
        help="transcode clips, or keep their bytes",
    )
    add("--frame-size", type=int, default=coding.frame_size, help="height and width of stored pictures in pixels")
    add("--frames", type=int, default=coding.frames, help="most frames that are stored of a clip")
    add("--quantizer", type=int, default=coding.quantizer, help="coarseness of their JPEGs, smaller is better")
    add(
        "--openface", type=Path, metavar="FOLDER", help="folder of OpenFace's output, in place of the built-in detector"
    )
    add("--fer-onnx", type=Path, metavar="FILE", help="FER+ ONNX model, in place of the built-in expression model")
    add("--shard-clips", type=int, default=options.shard_clips, help="clips per shard")
    if not any(action.dest == "workers" for action in command._actions):
        add("--workers", type=int, help="processes (default: one per core)")
    add(
        "--clip-timeout",
        type=float,
        default=options.clip_timeout,
        help="seconds after which a clip is given up",
    )
    add(
        "--max-rejected",
        type=float,
        default=0.05,
        help="share of rows that may be rejected before the exit code is 1",
    )


if __name__ == "__main__":
    run(main)
