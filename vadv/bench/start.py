"""From the command to the end of the first step: `launch/train.py` on the sample, against importing its libraries alone.

The features of the first clips are in the cache: nothing is decoded and CLIP does not run. So are the files of Python and
its packages in the system's page cache, unless `--cold`: then each start reads them from the disk, as the first one of a
day does.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vadv.bench.table import Row
from vadv.ports import free_port

IMPORTS = "import torch, deepspeed, transformers"
USED = "import torch._dynamo, deepspeed, open_clip; from transformers import BertModel"
"""What a run cannot do without: transformers imports a model's modules when it is first named, torch Dynamo with the first
optimizer."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--config", default="configs/sample.yaml", help="what is trained (default: %(default)s)")
    parser.add_argument("--shards", default="data/sample-shards", help="shards to read (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="starts of each; the best counts (default: %(default)s)")
    parser.add_argument("--cold", action="store_true", help="packages are read from the disk, not from the page cache")


def run(options: argparse.Namespace) -> list[Row]:
    """Measure in turn."""
    with tempfile.TemporaryDirectory() as cache:
        return _measured(options, cache)


def _measured(options: argparse.Namespace, cache: str) -> list[Row]:
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    train = ["launch/train.py", "--config", options.config, "--data.shards", options.shards, "--log.every", "1"]
    train += ["--teacher.cache_features", "true", "--data.views", "1", "--data.cache_dir", cache]
    _first_step([sys.executable, *train], environment)  # fills the cache
    best = dict.fromkeys(("imports", "used", "python", "deepspeed", "help"), float("inf"))
    launcher = str(Path(sys.executable).with_name("deepspeed"))
    for _ in range(options.repeats):
        two = [launcher, "--num_accelerators", "2", "--master_port", str(free_port()), *train]
        for name, clock, command in (
            ("imports", _whole, [sys.executable, "-c", IMPORTS]),
            ("used", _whole, [sys.executable, "-c", USED]),
            ("help", _whole, [sys.executable, "launch/train.py", "--help"]),
            ("python", _first_step, [sys.executable, *train]),
            ("deepspeed", _first_step, two),
        ):
            if options.cold:
                _forget(Path(sys.prefix), Path(os.__file__).parent)
            best[name] = min(best[name], clock(command, environment))
    rows = [
        Row(f"start: python -c '{IMPORTS}'", best["imports"], "s"),
        Row(f"start: python -c '{USED}'", best["used"], "s"),
    ]
    for way, what in (("python", "python launch/train.py"), ("deepspeed", "deepspeed, 2 ranks,")):
        row = Row(f"start: {what} to the first step", best[way], "s", best[way] / best["imports"], "the first imports")
        row.more["to what a run imports"] = round(best[way] / best["used"], 2)
        rows.append(row)
    return [*rows, Row("start: launch/train.py --help", best["help"], "s", best["help"], "1 s")]


def _forget(*folders: Path) -> None:
    """Have the system drop these folders' files from its page cache; what a running process has mapped stays."""
    os.sync()
    for path in itertools.chain.from_iterable(folder.rglob("*") for folder in folders):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def _whole(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def _first_step(command: list[str], environment: dict[str, str]) -> float:
    """Seconds to the first line of metrics.jsonl; the run is then killed with all that it started."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder, "run/metrics.jsonl")
        began = time.perf_counter()
        with subprocess.Popen(
            [*command, "--run", str(metrics.parent)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        ) as process:
            try:
                while not (metrics.is_file() and metrics.stat().st_size):
                    if process.poll() is not None:
                        assert process.stderr
                        raise ValueError(f"the run ended before its first step: {process.stderr.read().strip()[-300:]}")
                    time.sleep(0.02)
                return time.perf_counter() - began
            finally:
                _kill_all(process)


def _kill_all(process: subprocess.Popen[str]) -> None:
    import psutil

    if process.poll() is None:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            member.kill()
        psutil.wait_procs(family, timeout=10)
