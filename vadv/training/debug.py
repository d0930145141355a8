"""Debug mode: any configuration on any machine in under a minute, with the parts that are not there made small."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from vadv import tasks
from vadv.config import Config, Student, Teacher

STEPS, CLIPS, BATCH = 3, 40, 4
"""Optimizer steps taken, clips drawn when there are no shards, largest batch."""
TINY_CLIP = Path(__file__).resolve().parents[2] / "configs" / "clip" / "tiny.json"


def small(config: Config) -> tuple[Config, list[str]]:
    """A configuration that runs here at once, and what was changed, a line each.

    The path through the code stays the same; only sizes, weights that are not on this machine, and missing data change.
    """
    lines: list[str] = []
    train = config.train
    batch = min(train.batch_size, BATCH)
    steps = min(train.max_steps or STEPS, STEPS)
    config = replace(
        config,
        train=replace(train, batch_size=batch, micro_batch_size=None, max_steps=steps, checkpoint_every=0),
        log=replace(config.log, every=1),
        data=replace(config.data, workers=min(1, config.data.workers), prefetch=1, max_bad_fraction=1.0),
    )
    lines.append(f"{steps} steps of {batch} clips, anomaly checks on, evaluation cut short")
    student = config.student
    if tasks.kind(config).text:
        student, line = _student(student)
        lines.append(line)
    teacher = config.teacher
    if teacher is not None:
        teacher, line = _teacher(teacher)
        lines.append(line)
    missing = [folder for folder in config.data.folders() if "://" not in folder and not Path(folder).is_dir()]
    if missing:
        shards = _draw(config)
        config = replace(config, data=replace(config.data, shards=str(shards)))
        lines.append(f"data.shards: {', '.join(missing)} not there; {CLIPS} drawn clips in {shards} instead")
    return replace(config, student=student, teacher=teacher), lines


def _student(student: Student) -> tuple[Student, str]:
    found = student.weights == "random" or student.model.startswith("package:") or is_here(student.model, "config.json")
    if found:
        return student, f"student.model: {student.model}, {student.weights} weights"
    tiny = "tiny-bert" if student.model.startswith("bert") else "tiny-roberta"
    line = (
        f"student.model: would load {student.model} from the Hugging Face hub; not here, so {tiny} with random weights"
    )
    return replace(student, model=tiny, weights="random"), line


def _teacher(teacher: Teacher) -> tuple[Teacher, str]:
    known = {("ViT-L-14-quickgelu", "openai"): "timm/vit_large_patch14_clip_224.openai"}
    repository = known.get((teacher.clip, teacher.weights), teacher.clip)
    if teacher.weights == "random" or Path(teacher.weights).is_file() or is_here(repository, "open_clip_config.json"):
        return teacher, f"teacher.clip: {teacher.clip}, {teacher.weights} weights"
    line = (
        f"teacher.clip: would load {teacher.clip} with weights {teacher.weights} through open_clip; not here, so "
        f"{TINY_CLIP.name} with random weights"
    )
    return replace(teacher, clip=str(TINY_CLIP), weights="random"), line


def is_here(model: str, file: str) -> bool:
    """Whether a model is a local folder, or lies in the hub's cache."""
    if Path(model).is_dir():
        return True
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(model, file), str)
    except ValueError:  # not a repository's name
        return False


def _draw(config: Config) -> Path:
    """A few drawn clips as shards, made once."""
    from shards.pack import Options, pack
    from shards.sources import sources

    home = config.data.cache_folder()
    source = tasks.kind(config).sample
    out = home / f"debug-{source}-shards-{CLIPS}"
    if not (out / "manifest.json").is_file():
        print("drawing a few clips for debugging, once", file=sys.stderr)
        pack(sources()[source](root=home / f"debug-{source}-{CLIPS}", clips=CLIPS), out, Options())
    return out
