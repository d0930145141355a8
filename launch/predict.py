"""Sentiment of texts with a trained student.

    python launch/predict.py --student runs/sample/student "what a day" "never again"
    python launch/predict.py --student STUDENT --input reviews.csv --column review --output scored.csv
    python launch/predict.py --student STUDENT --input ten-million.txt --output scored.jsonl --resume
    tail -f chat.log | python launch/predict.py --student STUDENT -

One row per text, in input order: the row as it was, `sentiment`, and `sentiment_note` where there is something to say
(the text was cut, or why it has no number). Exit code 0: every text has a number; 1: some have none; 2: wrong use.
"""

from __future__ import annotations

import argparse
import sys
import time

from _command import FINE, NOT_FINE, run

ENGINE = (
    "auto: onnxruntime where it can be had, else torch; int8 is faster still and a little less exact (default: auto)"
)


def main() -> int:
    """Parse, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, help="student folder, exported folder, or run folder")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts to score, or - for standard input")
    parser.add_argument("--input", metavar="FILE", help=".txt, .csv, .tsv, .jsonl, each also .gz; - for standard input")
    parser.add_argument("--input-format", choices=("txt", "csv", "jsonl"), help="when the name does not say it")
    parser.add_argument("--column", default="text", help="csv column or jsonl key of the text (default: text)")
    parser.add_argument("--delimiter", help="csv separator (default: comma; tab for .tsv)")
    parser.add_argument("--encoding", default="utf-8", help="of the input (default: utf-8)")
    parser.add_argument("--output", metavar="FILE", help="write here instead of standard output")
    parser.add_argument(
        "--format", choices=("jsonl", "csv"), help="of the output (default: by --output's name, or jsonl)"
    )
    parser.add_argument("--field", default="sentiment", help="name of the prediction's field (default: sentiment)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted --output")
    parser.add_argument("--engine", default="auto", choices=("auto", "torch", "onnx", "int8"), help=ENGINE)
    parser.add_argument("--threads", type=int, help="batches computed side by side (default: one per core)")
    parser.add_argument("--max-tokens", type=int, help="cut texts here (default: as in training)")
    parser.add_argument("--window", type=int, default=4096, help="texts sorted by length together (default: 4096)")
    arguments = parser.parse_args()
    started = time.monotonic()

    from vadv.student.predict import Options, predict, say

    options = Options(**vars(arguments))
    summary = predict(options)
    if options.input or summary.cut or summary.unscored:
        print(say(summary, started), file=sys.stderr)
    return NOT_FINE if summary.unscored else FINE


if __name__ == "__main__":
    run(main)
