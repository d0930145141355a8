"""From shards to frames: our stream against its limit and its peers, on the same clips, in one run.

Raw clips are 640 x 360 pixels, 3 to 8 s, as download sites serve them; packed clips are what launch/pack.py makes of
them. Each way runs in a process of its own, `--repeats` times in turn with the others, and its best run counts: other
work on the machine can only make it slower. Rates are per core, from processor time, so that they hold for any number
of workers; decoding is all processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vadv.bench import clips
from vadv.bench.table import Row


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--clips", type=int, default=64, help="clips to read (default: 64)")
    parser.add_argument(
        "--work", type=Path, default=Path("build/bench"), help="where they are kept (default: build/bench)"
    )
    parser.add_argument("--width", type=int, default=640, help="of the raw clips, in pixels (default: 640)")
    parser.add_argument("--height", type=int, default=360, help="of the raw clips, in pixels (default: 360)")
    parser.add_argument("--workers", type=int, default=2, help="decoder processes of every way (default: 2)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way; the best counts (default: 3)")
    parser.add_argument("--passes", type=int, default=2, help="passes over the clips in a run (default: 2)")
    parser.add_argument("--epochs", type=int, default=20, help="epochs for the memory test, 0 for none (default: 20)")


def run(options: argparse.Namespace) -> list[Row]:
    """Measure.

    Returns:
        per way: clips per second and core, and wall-clock clips per second; ratios to the limit and to the peers.
    """
    folder: Path = options.work / f"{options.width}x{options.height}-{options.clips}"
    folder.mkdir(parents=True, exist_ok=True)
    clips.make(folder, options.clips, options.width, options.height)
    plan = [
        ("webdataset", "webdataset_decord", "raw", options.workers),
        ("mosaic", "mosaic", "raw", options.workers),
        ("raw", "ours", "raw", options.workers),
        ("packed", "ours", "packed", options.workers),
        ("one decoder", "ours", "packed", 1),
        ("here", "ours", "packed", 0),
        ("resized", "limit_resized", "packed", 0),
        ("limit", "limit", "packed", 0),
        ("excerpt limit", "limit_excerpt", "packed", 0),
        ("raw limit", "limit", "raw", 0),
        ("webdataset packed", "webdataset_decord", "packed", options.workers),
        ("members", "members", "packed", 0),
        ("checked", "checked_members", "packed", 0),
        ("cat", "cat", "packed", 0),
        ("first", "first_batch", "packed", options.workers),
    ]
    if find_spec("streaming") is None:
        plan = [entry for entry in plan if entry[0] != "mosaic"]
    best: dict[str, dict[str, float]] = {}
    for _ in range(options.repeats):
        for name, way, form, workers in plan:
            found = measure(way, folder / form, workers, options.passes * (20 if way in _QUICK else 1))
            kept = best.setdefault(name, found)
            best[name] = {key: min(kept[key], found[key]) for key in found}
    rows = [*_rates(best, options.workers), _isolation(folder / "packed", options.repeats, options.passes)]
    rows += [*_reading(best, folder), _first(best)]
    rows += [*_quality(measure("quality", folder, 0, 1)), _room(folder)]
    if options.epochs:
        rows += _memory(measure("memory", folder / "packed", options.workers, options.epochs))
    return rows


_QUICK = ("members", "checked_members", "cat")


def measure(way: str, folder: Path, workers: int, passes: int) -> dict[str, Any]:
    """Run one way in a fresh process."""
    command = [sys.executable, "-m", "vadv.bench.ways", way, str(folder), str(workers), str(passes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ValueError(f"{' '.join(command[1:])} failed: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _rates(best: dict[str, dict[str, float]], workers: int) -> list[Row]:
    names = {
        "webdataset": "webdataset + decord, raw clips",
        "mosaic": "MosaicML streaming + decord, raw clips",
        "raw": "ours, raw clips",
        "webdataset packed": "webdataset + decord, our packed clips",
        "packed": "ours, packed clips",
        "one decoder": "ours, packed clips, one decoder process",
        "here": "ours, packed clips, decoded in the training process",
        "resized": "bare loop, packed bytes in memory: decord, resize, crop",
        "limit": "bare loop, packed bytes in memory: decord only",
        "excerpt limit": "bare loop, the pictures shown in memory: decord only",
        "raw limit": "bare loop, raw bytes in memory: decord only",
    }

    def rate(name: str) -> float:
        return best[name]["clips"] / best[name]["cpu"]

    return [
        Row(
            what,
            rate(name),
            "clips/s/core",
            rate(name) / rate("webdataset"),
            "webdataset, raw",
            {
                "to the limit": f"{rate(name) / rate('limit'):.2f}",
                "ms of processor time": f"{1e3 / rate(name):.1f}",
                f"clips/s, {workers} workers": ""
                if "limit" in name or name in ("here", "one decoder", "resized")
                else f"{best[name]['clips'] / best[name]['seconds']:.1f}",
            },
        )
        for name, what in names.items()
        if name in best
    ]


def _isolation(folder: Path, repeats: int, passes: int) -> Row:
    """What a decoder process costs over decoding in the trainer: the median over pairs of runs, one after the other.

    One against one, since two decoders on units of one core slow each other down, isolated or not. Both runs of a pair
    meet the same clock rate of the processor, which changes by more than the goal within minutes.
    """
    ratios: dict[str, list[float]] = {"cpu": [], "seconds": []}
    for number in range(3 * repeats):
        found = {workers: measure("ours", folder, workers, 2 * passes) for workers in ((0, 1), (1, 0))[number % 2]}
        for key, kept in ratios.items():
            kept.append(100 * (found[1][key] / found[0][key] - 1))
    cost, slower = (float(np.median(kept)) for kept in ratios.values())
    what, more = "cost of isolation (a decoder process), processor time", {"% by the clock": f"{slower:.1f}"}
    return Row(what, cost, "%", None, "goal: below 5 %", more)


def _reading(best: dict[str, dict[str, float]], folder: Path) -> list[Row]:
    size = _bytes_of(folder / "packed")
    rates = {}
    for name in ("members", "checked", "cat"):
        found = best[name]
        passes = found["clips"] / (1 if name == "cat" else _clips_of(folder))
        rates[name] = size * passes / found["seconds"] / 1e6
    return [
        Row("index + one pread a sample", rates["members"], "MB/s", rates["members"] / rates["cat"], "cat"),
        Row("the same with CRC-32 and KEY.json", rates["checked"], "MB/s", rates["checked"] / rates["cat"], "cat"),
        Row("cat of the same tars", rates["cat"], "MB/s"),
    ]


def _clips_of(folder: Path) -> int:
    samples: int = json.loads((folder / "packed/manifest.json").read_text())["splits"]["train"]["samples"]
    return samples


def _first(best: dict[str, dict[str, float]]) -> Row:
    seconds = best["first"]["seconds"]
    return Row("first batch after the process is up", seconds, "s", 1 / seconds, "goal: 1 s")


def _quality(found: dict[str, list[float]]) -> list[Row]:
    """Of 8 frames of 224 x 224 a clip, packed against raw: the worst clip, and the mean."""
    return [
        Row(f"{what} of the packed view, the least of {len(found[key])} clips", min(found[key]), unit, min(found[key]) / goal,
            f"goal: {goal:g}", {"mean": f"{np.mean(found[key]):.4g}"})
        for key, what, unit, goal in (("psnr", "PSNR", "dB", 40.0), ("ssim", "SSIM", "", 0.98))
    ]  # fmt: skip


def _room(folder: Path) -> Row:
    raw, packed = (_bytes_of(folder / form) for form in ("raw", "packed"))
    return Row("room of a packed clip", packed / _clips_of(folder) / 1e3, "kB", packed / raw, "raw")


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "train").glob("*.tar"))


def _memory(found: dict[str, list[float]]) -> list[Row]:
    rows = []
    for name in ("trainer", "decoders"):
        curve = found[name]
        settled, last = curve[min(2, len(curve) - 1)], curve[-1]
        what = f"memory of the {name}, epoch 3 to epoch {len(curve)}"
        rows.append(
            Row(what, last - settled, "MB more", last / settled, "epoch 3", {"MB": f"{settled:.0f} -> {last:.0f}"})
        )
    return rows
