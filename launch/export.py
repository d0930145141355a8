"""A trained student as a folder to give away: model, tokenizer, model card.

    python launch/export.py --run runs/sample --out exported                    for transformers (safetensors)
    python launch/export.py --run runs/sample --out exported --format onnx      for onnxruntime (opset 17, free shapes)
    python launch/export.py --run runs/sample --out exported --format onnx --int8      and in 8-bit integers

The numbers are compared with PyTorch's before the folder appears.
"""

from __future__ import annotations

import argparse

from _command import FINE, run


def main() -> int:
    """Parse, export, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="run folder or student folder")
    parser.add_argument("--out", required=True, help="new or empty folder, or an earlier export, which is replaced")
    parser.add_argument("--format", default="hf", choices=("hf", "onnx"), help="default: hf")
    parser.add_argument("--int8", action="store_true", help="with onnx: also model.int8.onnx, its metric loss stated")
    options = parser.parse_args()

    from vadv.student.export import export

    report = export(options.run, options.out, options.format, int8=options.int8)
    for name, found in report.checked.items():
        print(
            f"{name}: {found['texts']} texts checked, largest difference {found['largest']:.2g}, mean {found['mean']:.2g}"
        )
    for split, metrics in report.facts.get("int8", {}).items():
        print(f"int8 on {split}: MAE {metrics['float32']['mae']:.4f} -> {metrics['int8']['mae']:.4f}")
    print(f"wrote {report.out}")
    return FINE


if __name__ == "__main__":
    run(main)
