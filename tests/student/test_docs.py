"""The examples of docs/use-the-student.md run as they stand, with nothing of this project imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_students import ROOT

from vadv.student.engines import choose_engine
from vadv.student.export import export
from vadv.student.folder import open_student
from vadv.student.predictor import Predictor

PAGE = ROOT / "docs" / "use-the-student.md"
EXAMPLES = dict(re.findall(r"```python\n# plain (\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))


@pytest.mark.parametrize(("library", "format"), [("transformers", "hf"), ("onnxruntime", "onnx")])
def test_example(student: Path, tmp_path: Path, library: str, format: str) -> None:
    code = EXAMPLES[library]
    assert len(code.strip().splitlines()) <= 22 and "vadv" not in code
    export(student, tmp_path / "exported", format)  # type: ignore[arg-type]
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    values, texts = zip(*(line.split("  ", 1) for line in found.stdout.splitlines()))
    opened = open_student(student)
    expected = Predictor(opened, choose_engine(opened, "onnx")).predict(texts)
    assert len(texts) == 3
    np.testing.assert_allclose([float(value) for value in values], expected, atol=1e-4)


def test_the_page_and_the_commands_agree() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for command in ("predict", "export", "serve"):
        help_text = subprocess.run(
            [sys.executable, str(ROOT / "launch" / f"{command}.py"), "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        section = page.partition(f"\n## {command.capitalize()}")[2].partition("\n## ")[0]
        section = "\n".join(line for line in section.splitlines() if "bench.py" not in line)
        for option in set(re.findall(r"(?<![-\w])--[a-z][a-z0-9-]*", section)):
            assert option in help_text, f"{option} of {command}"
