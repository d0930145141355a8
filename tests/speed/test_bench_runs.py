"""Every benchmark runs, at a small size, and its rows agree with what they must; no test here knows how fast is fast."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from vadv.bench import scaling

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--clip", "configs/clip/tiny.json", "--student", "tiny-roberta"]


def bench(name: str, folder: Path, *options: str) -> dict[str, dict[str, Any]]:
    """Rows of `launch/bench.py NAME`, by what they say."""
    command = [sys.executable, "launch/bench.py", name, *options, "--json", str(folder / "rows.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads((folder / "rows.json").read_text())}
    assert all(what in done.stdout for what in rows)
    return rows


def test_order(tmp_path: Path) -> None:
    rows = bench("order", tmp_path, "--shards", "1000", "--samples", "1000000")
    assert len(rows) == 4
    assert all(row["value"] > 0 for row in rows.values())


def test_pipeline(tmp_path: Path) -> None:
    size = ["--clips", "4", "--width", "320", "--height", "180", "--workers", "1"]
    short = ["--repeats", "1", "--passes", "1", "--epochs", "2"]
    rows = bench("pipeline", tmp_path, *size, *short, "--work", str(tmp_path / "clips"))
    assert rows["webdataset + decord, raw clips"]["ratio"] == 1
    assert rows["bare loop, packed bytes in memory: decord only"]["more"]["to the limit"] == "1.00"
    for what, row in rows.items():
        if row["unit"] in ("clips/s/core", "MB/s", "s"):
            assert row["value"] > 0, what
    assert any(what.startswith("memory of the decoders, epoch 3") for what in rows)
    for what in ("PSNR", "SSIM"):  # what the packed form promises, on real clips
        assert next(row for name, row in rows.items() if name.startswith(what))["ratio"] >= 1


def test_features(tmp_path: Path) -> None:
    rows = bench("features", tmp_path, *TINY, "--clips", "2", "--records", "2", "--repeats", "1")
    names = "(configs/clip/tiny.json, tiny-roberta, 2 clips)"
    without, later = rows[f"features: epoch without the cache {names}"], rows["features: later epochs"]
    assert later["ratio"] == pytest.approx(without["value"] / later["value"])
    assert {f"features: reading from the {where}" for where in ("disk", "page cache")} < set(rows)


def test_step(tmp_path: Path) -> None:
    rows = bench("step", tmp_path, *TINY, "--clips", "2", "--steps", "4")
    assert {f"step: {way}" for way in ("our step", "bare DeepSpeed loop", "bare PyTorch loop")} < set(rows)
    shares = {what: row["ratio"] for what, row in rows.items() if what.startswith("part: ")}
    del shares["part: logging (one step in log.every)"]  # not in every step
    assert len(shares) == 8
    assert 0.5 < sum(shares.values()) <= 1.01


def test_checkpoint(tmp_path: Path) -> None:
    rows = bench("checkpoint", tmp_path, *TINY, "--steps", "2", "--interval", "10", "--folder", str(tmp_path))
    waits, share = rows["checkpoint: training waits"], rows["checkpoint: share of 10 steps"]
    step = share["more"]["a step, s"]
    assert share["value"] == pytest.approx(100 * waits["value"] / (waits["value"] + 10 * step), rel=0.05)
    assert rows["checkpoint: bytes"]["value"] > 0


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_messages_are_those_of_theory(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    options = Namespace(config="configs/sample.yaml", clips=1, tokens=8, ranks=2)
    assert scaling.messages(options, stage).ratio == pytest.approx(1, abs=0.02)
