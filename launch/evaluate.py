"""Metrics of a trained run or student on a split.

    python launch/evaluate.py --run runs/sample --split test                teacher and student, as RUN/result.json
    python launch/evaluate.py --run runs/sample/student --shards SHARDS     the student folder alone: text only

Prints one JSON object per output.
"""

from __future__ import annotations

import json

from _command import FINE, Parser, run


def main() -> int:
    """Parse, evaluate, print."""
    parser = Parser(description=__doc__)
    parser.add_argument("--run", required=True, metavar="FOLDER", help="run folder, or student folder")
    parser.add_argument("--shards", nargs="+", metavar="SHARDS", help="shard folders (default: those of the run)")
    parser.add_argument("--split", default="test", choices=("train", "valid", "test"), help="what is scored")
    parser.add_argument("--predictions", metavar="FILE", help="also write the predictions there, as csv")
    options = parser.parse_args()

    from vadv.training.reevaluate import evaluate_folder

    metrics = evaluate_folder(options.run, options.shards, options.split, options.predictions)
    for output, values in metrics.items():
        print(json.dumps({"output": output, **values}))
    return FINE


if __name__ == "__main__":
    run(main)
