#!/usr/bin/env python
"""Check shards against their manifest: checksums, indices, labels, ids, and that every clip decodes.

    python launch/verify.py data/mosi-shards
    python launch/verify.py data/mosi-shards --fast      sizes and checksums only

The exit code is 0 when all is well, 1 with a list when something is wrong, 2 when there is nothing to check.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _command

MOST_SHOWN = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, nargs="+", help="folders of shards")
    parser.add_argument("--fast", action="store_true", help="compare sizes and checksums only")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one per core)")
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
    return _command.FINE if good else _command.NOT_FINE


if __name__ == "__main__":
    _command.run(main)
