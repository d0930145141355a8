"""Fault injection: break two-process runs at random moments in many ways, resume them, compare with the unbroken run.

    make faults                                        100 trials, a table at the end
    python tests/faults/trials.py --trials 10 --seed 7

Each trial is a function of its number and the seed. Ranks are real processes with DeepSpeed, forked from one that has
imported the libraries, since that is most of a short run's time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from breaking import FAULTS, GRACE, STALL, STEPS, Ranks, Trial, full_disk

NUMBERS = ("loss", "text_mse", "video_mse", "prompt_ce", "prompt_to_video", "video_to_text", "grad_norm", "lr")


def prepare(number: int, seed: int, folder: Path, shards: Path) -> Trial:
    """A trial's folder and settings."""
    own = random.Random(f"{seed}/{number}")
    folder.mkdir(parents=True)
    shutil.copytree(shards, folder / "shards")
    zero = number // len(FAULTS) % 4
    settings = {
        "data": {
            **{"shards": str(folder / "shards"), "workers": 1, "frames": 2, "frame_size": 32},
            **{"max_bad_fraction": 0.0, "decode_timeout": 4.0},
        },
        "teacher": {"clip": "configs/clip/tiny.json", "weights": "random"},
        "student": {"model": "tiny-roberta", "weights": "random"},
        "train": {
            **{"epochs": 2, "batch_size": 12, "micro_batch_size": 3, "lr": 1e-3, "warmup_steps": 2},
            **{"checkpoint_every": 2, "stall_timeout": STALL},
        },
        "log": {"every": 1},
        "deepspeed": f"configs/deepspeed/zero{zero}.json",
    }
    return Trial(number, folder, own, settings, zero, shards)


def outcome(trial: Trial) -> dict[int, dict[str, float]]:
    """Numbers of each step of a run."""
    lines = [json.loads(line) for line in (trial.run / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["split"] == "train" and "event" not in line]
    return {line["step"]: {name: line[name] for name in NUMBERS if name in line} for line in trained}


def complete(trial: Trial, attempts: int = 4) -> bool:
    """Resume until the run has finished."""
    for _ in range(attempts):
        ranks = Ranks(trial)
        codes = ranks.wait(180)
        ranks.end()
        if codes == [0, 0]:
            return True
    return False


def break_and_resume(trial: Trial, fault: Callable[[Trial, Ranks], Iterator[None]]) -> tuple[bool, bool, str]:
    """Whether the run ended by itself after the fault and finished after a resume; whether bit for bit; a remark."""
    mounted = fault is full_disk and _mount(trial.run / "checkpoints")
    try:
        ranks = Ranks(trial)
        breaking = fault(trial, ranks)
        next(breaking)
        codes = ranks.wait(STALL + GRACE)
        hung = ranks.alive()
        left = ranks.end()
        next(breaking, None)
        survived = complete(trial) and not hung
        same = survived and outcome(trial) == SHARED_OUTCOMES[trial.zero]
        log = (trial.folder / "log").read_text()
        remark = f"codes {codes}"
        if hung:
            remark += f", did not end within {STALL + GRACE:g} s"
        if left and not hung:
            remark += f", {left} process(es) left"
        if "Traceback" in log:
            remark += ", traceback"
        return survived, same, remark
    finally:
        if mounted:
            subprocess.run(["umount", str(trial.run / "checkpoints")], check=False)


SHARED_OUTCOMES: dict[int, dict[int, dict[str, float]]] = {}


def _mount(folder: Path) -> bool:
    """A small file system for the checkpoints; without the right to mount, the disk stays large and nothing breaks."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def run_trials(numbers: list[int], seed: int, shards: Path, folder: Path) -> list[tuple[str, int, bool, bool, str]]:
    """Run trials; (fault, ZeRO stage, survived, bit-identical, remark) of each."""
    import deepspeed  # noqa: F401 - imported before ranks are forked, so that each need not
    import torch.utils.tensorboard  # noqa: F401
    import transformers  # noqa: F401

    import vadv.training.run  # noqa: F401

    found = []
    for number in numbers:
        trial = prepare(number, seed, folder / f"trial-{number}", shards)
        if trial.zero not in SHARED_OUTCOMES:
            unbroken = prepare(number, seed, folder / f"unbroken-{trial.zero}", shards)
            assert complete(unbroken, attempts=1), (unbroken.folder / "log").read_text()[-2000:]
            SHARED_OUTCOMES[trial.zero] = outcome(unbroken)
            assert len(SHARED_OUTCOMES[trial.zero]) == STEPS
        fault = FAULTS[number % len(FAULTS)]
        began = time.monotonic()
        survived, same, remark = break_and_resume(trial, fault)
        found.append((fault.__name__, trial.zero, survived, same, remark))
        verdict = "bit-identical" if same else "survived" if survived else "LOST"
        print(
            f"trial {number:3}  zero {trial.zero}  {fault.__name__:20}  {verdict:13}  {remark}  "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        if same:
            shutil.rmtree(trial.folder, ignore_errors=True)
    return found


def main() -> int:
    """Run the trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--shards", type=Path, help="packed sample shards of some 40 training clips; default: made anew"
    )
    parser.add_argument("--folder", type=Path, help="where runs go; those that are not bit-identical stay there")
    options = parser.parse_args()
    os.environ["DS_ACCELERATOR"], os.environ["OMP_NUM_THREADS"] = "cpu", "1"
    folder = options.folder or Path(tempfile.mkdtemp(prefix="videoadviser-faults-"))
    shards = options.shards or _small_corpus(folder)
    found = run_trials(list(range(options.first, options.first + options.trials)), options.seed, shards, folder)
    print(f"\n{'fault':22} trials survived bit-identical")
    for name in [fault.__name__ for fault in FAULTS] + [""]:
        rows = [row for row in found if name in ("", row[0])]
        count = Counter((row[2], row[3]) for row in rows)
        survived, same = sum(n for (s, _), n in count.items() if s), sum(n for (_, i), n in count.items() if i)
        print(f"{name or 'all':22} {len(rows):6} {survived:8} {same:13}")
    return int(not all(row[3] for row in found))


def _small_corpus(folder: Path) -> Path:
    from shards.pack import Options, pack
    from shards.sources import sources

    pack(sources()["sample"](root=folder / "clips", clips=64), folder / "shards", Options(shard_clips=16))
    return folder / "shards"


if __name__ == "__main__":
    sys.exit(main())
