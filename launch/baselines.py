"""A table of trained runs beside simple yardsticks, on a held-out split.

python launch/baselines.py runs/sample runs/sample-alone --shards data/sample-shards
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _command import FINE, run


def main() -> int:
    """Parse, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="finished run folders; the first names the encoder")
    parser.add_argument("--shards", nargs="+", metavar="SHARDS", help="shard folders; default: those of the first run")
    parser.add_argument("--split", default="test", choices=("valid", "test"), help="default: test")
    options = parser.parse_args()

    from vadv.config_file import load
    from vadv.report.baselines import baselines, outcomes, table, verdict

    finished = outcomes(options.runs, options.split)
    config = load(Path(options.runs[0]) / "config.yaml")
    rows = baselines(options.shards or config.data.folders(), options.split, config.student) + finished
    print(table(rows))
    print(verdict(rows))
    return FINE


if __name__ == "__main__":
    run(main)
