"""Fit the standard methods of Table 4 on the features of shards, and show them beside trained students.

    python launch/comparators.py --shards data/vegas-shards --out runs/vegas-comparators
    python launch/comparators.py --shards data/events-shards --beside runs/sample-events runs/sample-events-alone

Each writes OUT/METHOD-SEED/result.json, which launch/report.py puts into Table 4.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from _command import FINE, Parser, run

KEYS = ("random", "cca", "c-cca", "dcca", "c-dcca", "dscmr", "tnn-c-cca")
METHODS = f"which ones, of {', '.join(KEYS)} (default: all)"


def main() -> int:
    """Parse, fit, print the table."""
    options = parse()

    from vadv.comparators import COMPARATORS
    from vadv.comparators.results import fit_all, outcomes, table, verdict

    beside = outcomes(options.beside)  # a wrong folder is told before anything is fitted
    found: dict[str, list[dict[str, float]]] = {}
    for comparator, seed, metrics in fit_all(
        [COMPARATORS[key] for key in options.methods], options.shards, options.seeds, options.out
    ):
        print(f"fitted {comparator.title} (seed {seed})", file=sys.stderr)
        found.setdefault(f"{comparator.title}, {comparator.source}", []).append(metrics)
    rows = [
        (name, {key: sum(m[key] for m in several) / len(several) for key in several[0]})
        for name, several in found.items()
    ]
    print(table([*rows, *beside]))
    results = [json.loads((Path(folder) / "result.json").read_text(encoding="utf-8")) for folder in options.beside]
    if sentence := verdict(results):
        print(sentence)
    return FINE


def parse() -> argparse.Namespace:
    """Options."""
    parser = Parser(description=__doc__)
    parser.add_argument("--shards", nargs="+", required=True, metavar="SHARDS", help="shard folders")
    parser.add_argument("--methods", nargs="+", default=KEYS, choices=KEYS, metavar="METHOD", help=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], metavar="N", help="the mean over them is shown")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the results (default: none are written)")
    parser.add_argument(
        "--beside", nargs="+", default=[], metavar="RUN", help="finished retrieval runs to show as well"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
