"""Does the method learn what it should? A made corpus in which the face tells, and the text only hints.

    python docs/experiments/face_tells.py --seeds 5 --out face_tells.json

Each clip has a hidden sentiment s, uniform in [-3, 3].
- Label for training and validation: s plus the error of a poor rater, standard deviation 2.
- Text: 12 made words of 300. A word has a hidden valence and is likelier in sentences of its sign; in three clips of
  ten no word has any. So text hints at s, and in those three clips only the face tells.
- Face: 64 x 8 scores, linear in s, with noise per clip (.5) and per frame, a fifth of the frames without a face.
- Frames: grey. CLIP has nothing to see.

The student reads the text alone and is tested against s itself: how well does it learn the hint from few poor labels?
Training: 400 clips, 12 epochs of batch 16, the best epoch by MAE on 400 validation clips (poor labels too), 1,000 test
clips. The learning rate is the best one of the student alone. Ridge regression on word counts is shown with the same
poor labels, and with s itself in their place: the most that a perfect adviser could give it.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vadv import config
from vadv.models import Student, VideoAdviser, build_student, build_teacher
from vadv.models.batch import Batch
from vadv.models.text import lay
from vadv.objectives.build import build_objective

CLIPS = {"train": 400, "valid": 400, "test": 1000}
EPOCHS, BATCH, WORDS, LENGTH = 12, 16, 300, 12
RATER, HINT, MUTE = 2.0, 1.5, 0.3
"""Standard deviation of the labels' error, strength of the words' valence, share of texts without any."""

PAPER = {"alpha": 1.0, "beta": 10.0, "gamma": 1.0, "delta": 10.0, "psi": 1.0}
FAST = {"factor": 10.0}
"""Modules that start from random weights learn at ten times the rate, as X-CLIP's do."""
CASES: dict[str, dict[str, Any]] = {
    "student alone": {"alone": True},
    "none": {"objective": {"variant": "none"}},
    "step, 1:10:1:10:1": {},
    "step without first": {"objective": {"variant": "step-without-first"}},
    "CRD": {"objective": {"variant": "crd"}},
    "step, psi 30, detached": {"objective": {"psi": 30.0, "detach_teacher": True}},
    "student alone, new modules x 10": {"alone": True} | FAST,
    "none, new modules x 10": {"objective": {"variant": "none"}} | FAST,
    "step, new modules x 10": FAST,
    "step, xclip prompting, new modules x 10": {"teacher": {"prompting": "xclip"}} | FAST,
    "step without first, new modules x 10": {"objective": {"variant": "step-without-first"}} | FAST,
    "CRD, new modules x 10": {"objective": {"variant": "crd"}} | FAST,
    "step, psi 10, new modules x 10": {"objective": {"psi": 10.0}} | FAST,
    "step, psi 30, detached, new modules x 10": {"objective": {"psi": 30.0, "detach_teacher": True}} | FAST,
    "step, psi 30, detached, without first, new modules x 10": {
        "objective": {"psi": 30.0, "detach_teacher": True, "variant": "step-without-first"}
    }
    | FAST,
}
"""What is trained. Each is compared with the student alone whose new modules learn at the same rate."""


def corpus(seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Words, faces and labels of the three splits; a function of the seed."""
    rng = np.random.default_rng([seed, 20])
    valence = rng.normal(size=WORDS)
    direction, offset = rng.normal(size=8), rng.normal(size=8)
    splits = {}
    for name, n in CLIPS.items():
        s = rng.uniform(-3, 3, n)
        telling = rng.random(n) >= MUTE
        chances = np.exp(np.where(telling, s, 0.0)[:, None] / 3 * valence * HINT)
        words = np.stack([rng.choice(WORDS, LENGTH, p=c / c.sum()) for c in chances])
        shown = s + rng.normal(size=n) * 0.5
        faces = shown[:, None, None] * direction + offset + rng.normal(size=(n, 64, 8)) * 1.5
        mask = rng.random((n, 64)) > 0.2
        noisy = s + rng.normal(size=n) * RATER
        splits[name] = {
            "words": words,
            "faces": np.where(mask[..., None], faces, 0).astype(np.float32),
            "mask": mask,
            "label": s if name == "test" else noisy,
            "hidden": s,
        }
    return splits


def batch_of(split: dict[str, np.ndarray], rows: np.ndarray, visual: torch.Tensor | None, epoch: int) -> Batch:
    """These clips as tensors. A word is one token id; the tokenizer's special tokens stand around the sentence."""
    return Batch(
        weight=torch.ones(len(rows)),
        label=torch.from_numpy(split["label"][rows]).float(),
        index=torch.from_numpy(rows),
        noise=torch.from_numpy(rows) * 100_003 + epoch,
        text=lay([[0, *(words + 10), 2] for words in split["words"][rows]]),
        visual=None if visual is None else visual.expand(len(rows), *visual.shape[1:]),
        faces=torch.from_numpy(split["faces"][rows]),
        face_mask=torch.from_numpy(split["mask"][rows]),
    )


def settings_of(case: dict[str, Any]) -> config.Config:
    teacher = config.Teacher(clip="configs/clip/tiny.json", weights="random", **case.get("teacher", {}))
    return replace(
        config.Config(),
        teacher=None if case.get("alone") else teacher,
        student=config.Student(model="tiny-roberta", weights="random"),
        objective=config.Objective(**(PAPER | case.get("objective", {}))),
    )


def run(case: dict[str, Any], seed: int, lr: float) -> dict[str, float]:
    """Train one model; MAE of its logits on the test split at the best epoch, and where that was."""
    splits = corpus(seed)
    settings = replace(settings_of(case), seed=seed)
    student, _ = build_student(settings.student, seed)
    teacher, visual = None, None
    if settings.teacher is not None:
        teacher = build_teacher(settings.teacher, seed, frames=2, frame_size=32)
        visual = teacher.clip.tokens(torch.full((1, 2, 3, 32, 32), 128, dtype=torch.uint8))
    model = VideoAdviser(teacher, student, build_objective(settings, teacher, student, CLIPS["train"]))
    old = {id(p) for p in model.pretrained_parameters()}
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups[id(parameter) in old].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": groups[True], "lr": lr}, {"params": groups[False], "lr": lr * case.get("factor", 1.0)}],
        weight_decay=0.01,
    )
    steps = EPOCHS * CLIPS["train"] // BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1.0, (i + 1) / 15) * 0.5 * (1 + math.cos(math.pi * i / steps))
    )
    best, kept = {"valid": float("inf")}, {}
    for epoch in range(EPOCHS):
        model.train()
        order = np.random.default_rng([seed, epoch]).permutation(CLIPS["train"])
        for rows in order.reshape(-1, BATCH):
            loss = model(batch_of(splits["train"], rows, visual, epoch))["loss"] / BATCH
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        valid = evaluate(model.student, splits["valid"], visual)["text"]
        if valid < best["valid"]:
            best = {"valid": valid, "epoch": float(epoch)}
            kept = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept)
    return best | evaluate(model, splits["test"], visual)


@torch.inference_mode()
def evaluate(
    model: VideoAdviser | Student, split: dict[str, np.ndarray], visual: torch.Tensor | None
) -> dict[str, float]:
    """MAE of each logit; a student by itself has the text's only."""
    model.eval()
    rows = np.arange(len(split["label"]))
    sums: dict[str, float] = {}
    for part in np.array_split(rows, max(1, len(rows) // 100)):
        batch = batch_of(split, part, visual, 0)
        logits = {"text": model(batch).logit[:, 0]} if isinstance(model, Student) else model(batch)["logits"]
        for name in ("text", "video", "prompt"):
            if name in logits:
                sums[name] = sums.get(name, 0.0) + float((logits[name] - batch.label).abs().sum())
    return {name: total / len(rows) for name, total in sums.items()}


def yardsticks(seed: int) -> dict[str, float]:
    """MAE of the mean label, and of ridge regression on word counts from poor and from true labels."""
    from sklearn.linear_model import RidgeCV

    splits = corpus(seed)
    counts = {k: np.stack([np.bincount(w, minlength=WORDS) for w in v["words"]]) for k, v in splits.items()}
    train, truth = splits["train"], splits["test"]["label"]
    found = {"mean of the labels": float(np.abs(train["label"].mean() - truth).mean())}
    for name, target in (("ridge", "label"), ("ridge, told s", "hidden")):
        ridge = RidgeCV(np.logspace(-2, 4, 13)).fit(counts["train"], train[target])
        found[name] = float(np.abs(ridge.predict(counts["test"]) - truth).mean())
    return found


def main() -> None:
    """Run the cases over the seeds and print mean ± standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("face_tells.json"))
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--lrs", type=float, nargs="*", default=[1e-4, 3e-4], help="tried for the student alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done: dict[str, list[dict[str, float]]] = {}
    if options.out.is_file():
        done = json.loads(options.out.read_text())
    seeds = range(1, options.seeds + 1)

    def cached(name: str, case: dict[str, Any], lr: float) -> list[dict[str, float]]:
        key = f"{name} @ {lr:g}"
        while len(done.setdefault(key, [])) < len(seeds):
            done[key].append(run(case, seeds[len(done[key])], lr))
            options.out.write_text(json.dumps(done, indent=1))
        return done[key]

    alone = {lr: np.mean([r["valid"] for r in cached("student alone", {"alone": True}, lr)]) for lr in options.lrs}
    lr = min(alone, key=lambda k: alone[k])
    print(f"learning rate {lr:g}: validation MAE of the student alone { ({k: round(v, 3) for k, v in alone.items()}) }")
    lines = [yardsticks(s) for s in seeds]
    for name in lines[0]:
        print(show(name, [line[name] for line in lines], None))
    for name in options.cases:
        alone_too = "student alone, new modules x 10" if "factor" in CASES[name] else "student alone"
        base = [r["text"] for r in cached(alone_too, CASES[alone_too], lr)]
        results = cached(name, CASES[name], lr)
        teacher = [r["video"] for r in results] if "video" in results[0] else None
        print(show(name, [r["text"] for r in results], base), "" if teacher is None else f"| {np.mean(teacher):.3f}")


def show(name: str, values: list[float], base: list[float] | None) -> str:
    """A table row: mean ± std; the difference from the base, seed by seed; the seeds that are better."""
    text = f"| {name} | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |"
    if base is None:
        return f"{text} |"
    differences = np.subtract(values, base)
    better = f"{(differences < 0).sum()} of {len(values)}"
    return f"{text} {differences.mean():+.3f} ± {differences.std(ddof=1):.3f} | {better} |"


if __name__ == "__main__":
    main()
