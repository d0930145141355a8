"""Predict the sentiment of texts with a trained student.

    python launch/predict.py --student runs/sample/student "what a day" "never again"
    python launch/predict.py --student STUDENT --input reviews.csv --column review --output scored.csv
    python launch/predict.py --student STUDENT --input ten-million.txt --output scored.jsonl --resume
    tail -f chat.log | python launch/predict.py --student STUDENT -

One row per text, in input order: the row as it was, `sentiment`, and `sentiment_note` where there is something to say
(the text was cut, or why it has no number). Exit code 1: some texts have no number.
"""

from __future__ import annotations

import sys
import time

from _command import FINE, NOT_FINE, Parser, run

ENGINE = "auto takes onnxruntime where it can be had, else torch; int8 is faster still and a little less exact"


def main() -> int:
    """Parse, predict, print."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--student", required=True, metavar="FOLDER", help="student folder, exported folder, or run folder"
    )
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts to score, or - for standard input")
    parser.add_argument(
        "--input", metavar="FILE", help="a .txt, .csv, .tsv or .jsonl file, each also .gz; - for standard input"
    )
    parser.add_argument(
        "--input-format", choices=("txt", "csv", "jsonl"), help="what the input is (default: by its name)"
    )
    parser.add_argument("--column", default="text", metavar="NAME", help="column (csv) or key (jsonl) of the text")
    parser.add_argument(
        "--delimiter", metavar="CHARACTER", help="what separates a csv's cells (default: comma; tab for .tsv)"
    )
    parser.add_argument("--encoding", default="utf-8", metavar="NAME", help="of the input")
    parser.add_argument("--output", metavar="FILE", help="write here (default: standard output)")
    parser.add_argument("--format", choices=("jsonl", "csv"), help="of the output (default: by its name, or jsonl)")
    parser.add_argument("--field", default="sentiment", metavar="NAME", help="name of the prediction's field")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted --output")
    parser.add_argument("--engine", default="auto", choices=("auto", "torch", "onnx", "int8"), help=ENGINE)
    parser.add_argument("--threads", type=int, help="batches computed side by side (default: one per core)")
    parser.add_argument("--max-tokens", type=int, help="tokens after which texts are cut (default: as in training)")
    parser.add_argument("--window", type=int, default=4096, help="texts that are sorted by length together")
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
