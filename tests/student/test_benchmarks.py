"""The benchmarks of the student run and say what they should, on a tiny student."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from vadv.bench import predict, serve
from vadv.bench.table import Row, as_text


def _options(module: object, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_options(parser)  # type: ignore[attr-defined]
    return parser.parse_args(arguments)


def test_predict_compares_equal_numbers(bert: Path, tmp_path: Path, mixed: list[str]) -> None:
    (tmp_path / "a.txt").write_text("\n".join(mixed[:40]))
    options = _options(predict, "--student", str(bert), "--input", str(tmp_path / "a.txt"), "--repeats", "1")
    rows = predict.run(options)
    assert [row.what.partition(": ")[2] for row in rows] == list(predict.WAYS)
    assert all(row.value > 0 and row.to == predict.BASE for row in rows)
    assert all(row.more["largest difference"] < 1e-5 for row in rows[:4])
    assert "largest difference" in as_text(rows)


def test_serve_counts_what_was_answered(bert: Path, monkeypatch: pytest.MonkeyPatch, mixed: list[str]) -> None:
    monkeypatch.setattr(predict, "rated", lambda: [(text, 0.0, "test") for text in mixed])
    rows: list[Row] = serve.run(_options(serve, "--student", str(bert), "--clients", "1", "4", "--requests", "60"))
    assert [row.more["requests"] for row in rows] == [60, 60]
    assert [row.more["failed"] for row in rows] == [0, 0]
