"""Check shards against their manifest: checksums, indices, labels, ids, and that every clip decodes.

    python launch/verify.py data/mosi
    python launch/verify.py data/mosi --fast      sizes and checksums only

Prints a line for each thing that is wrong. Exit code 1: there is one.
"""

from __future__ import annotations

from pathlib import Path

from _command import FINE, NOT_FINE, Parser, run

MOST_SHOWN = 100


def main() -> int:
    """Parse, check, print."""
    parser = Parser(description=__doc__)
    parser.add_argument("shards", type=Path, nargs="+", metavar="SHARDS", help="shard folders")
    parser.add_argument("--fast", action="store_true", help="compare sizes and checksums only")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    options = parser.parse_args()

    from shards.verify import verify

    good = True
    for folder in options.shards:
        report = verify(folder, fast=options.fast, workers=options.workers)
        for note in report.notes:
            print(f"note: {note}")
        for fault in report.faults[:MOST_SHOWN]:
            print(fault)
        if len(report.faults) > MOST_SHOWN:
            print(f"... and {len(report.faults) - MOST_SHOWN} more")
        looked = f"{report.shards} shards" + (
            "" if options.fast else f", {report.samples} samples, {report.clips} clips"
        )
        print(f"{folder}: {looked} checked: {'fine' if not report.faults else f'{len(report.faults)} faults'}")
        good = good and not report.faults
    return FINE if good else NOT_FINE


if __name__ == "__main__":
    run(main)
