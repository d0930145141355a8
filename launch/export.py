"""Write a trained student as a folder to give away: model, tokenizer, model card.

    python launch/export.py --run runs/sample --out exported                    for transformers (safetensors)
    python launch/export.py --run runs/sample --out exported --format onnx      for onnxruntime (opset 17, free shapes)
    python launch/export.py --run runs/sample --out exported --format onnx --int8      and in 8-bit integers
    python launch/export.py --run runs/vegas --out exported --format onnx       audio.onnx and visual.onnx (retrieval)

The numbers are compared with PyTorch's before the folder appears.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _command import FINE, Parser, run


def main() -> int:
    """Parse, export, print."""
    parser = Parser(description=__doc__)
    parser.add_argument("--run", required=True, metavar="FOLDER", help="run folder, or student folder")
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="new or empty folder, or an earlier export, which is replaced"
    )
    parser.add_argument("--format", default="hf", choices=("hf", "onnx"), help="for transformers, or for onnxruntime")
    parser.add_argument("--int8", action="store_true", help="with onnx: also model.int8.onnx, its metric loss stated")
    options = parser.parse_args()

    from vadv.retrieval.folder import is_students
    from vadv.student.export import export

    if any(is_students(folder) for folder in (Path(options.run), Path(options.run, "student"))):
        return export_students(options)
    report = export(options.run, options.out, options.format, int8=options.int8)
    for name, found in report.checked.items():
        print(
            f"{name}: {found['texts']} texts checked, largest difference {found['largest']:.2g}, mean {found['mean']:.2g}"
        )
    for split, metrics in report.facts.get("int8", {}).items():
        print(f"int8 on {split}: MAE {metrics['float32']['mae']:.4f} -> {metrics['int8']['mae']:.4f}")
    print(f"wrote {report.out}")
    return FINE


def export_students(options: argparse.Namespace) -> int:
    """Audio and visual students of a retrieval run."""
    from vadv.retrieval.folder import open_students
    from vadv.retrieval.onnx import export_onnx

    if options.format != "onnx" or options.int8:
        raise ValueError(
            f"{options.run}: expected --format onnx, without --int8, for students of the retrieval task; "
            "the run's own student folder is what there is in safetensors"
        )
    for path in export_onnx(open_students(options.run), Path(options.out)):
        print(f"wrote {path}")
    return FINE


if __name__ == "__main__":
    run(main)
