"""A table of trained runs beside simple yardsticks, on a held-out split.

    python launch/baselines.py runs/sample runs/sample-alone
    python launch/baselines.py runs/sample --shards data/sample-shards --split valid

The yardsticks: the mean of the training labels, ridge regression on the frozen encoder, a lexicon score.
"""

from __future__ import annotations

from pathlib import Path

from _command import FINE, Parser, run


def main() -> int:
    """Parse, compute, print."""
    parser = Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="finished run folders; the first names the encoder")
    parser.add_argument("--shards", nargs="+", metavar="SHARDS", help="shard folders (default: those of the first run)")
    parser.add_argument("--split", default="test", choices=("valid", "test"), help="what is scored")
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
