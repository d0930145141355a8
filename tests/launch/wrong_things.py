"""A folder of sound and damaged inputs for commands: students, shards, runs, indices, tables, settings."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 4
HEADER = "id,video,text,label,split\n"


def make_all(folder: Path) -> None:
    """Make everything, each by the project's own writers where it has one."""
    from student.small_students import made

    made("bert", folder).rename(folder / "student")
    _files(folder)
    _students(folder)
    _shards(folder)
    _runs(folder)
    _sources(folder)
    _retrieval(folder)
    _sweeps(folder)


def damage(path: Path, how: str | bytes | None) -> None:
    """Truncate a file (None), or put something else in its place."""
    if how is None:
        os.truncate(path, path.stat().st_size // 2)
    elif isinstance(how, bytes):
        path.write_bytes(how)
    else:
        path.write_text(how, encoding="utf-8")


def copy(folder: Path, name: str, new: str, changes: dict[str, str | bytes | None] | None = None) -> Path:
    """A copy of a folder with some files damaged; those damaged with "-" are left out."""
    out = folder / new
    shutil.copytree(folder / name, out)
    for file, how in (changes or {}).items():
        if how == "-":
            (out / file).unlink()
        else:
            damage(out / file, how)
    return out


def _files(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").write_text("my only copy\n")
    (folder / "file").write_text("a file\n")
    for name in ("empty.csv", "empty.yaml", "empty.jsonl"):
        (folder / name).touch()
    for name in ("picture.csv", "picture.yaml", "picture.jsonl", "picture.npy", "picture.mp4", "picture.h5"):
        (folder / name).write_bytes(PNG)
    (folder / "texts.csv").write_text("review,stars\nso so,3\n")
    (folder / "texts.txt").write_text("so so\n")
    (folder / "texts.pdf").write_text("so so\n")
    (folder / "twice.csv").write_text("text,text\na,b\n")
    (folder / "scored.csv").write_text("text,sentiment\nso so,1\n")
    (folder / "latin.csv").write_bytes("t\xeaxt,stars\nso so,3\n".encode("latin-1"))
    (folder / "torn.txt.gz").write_bytes(b"\x1f\x8b\x08\x00torn")
    (folder / "torn.yaml").write_text("train:\n  epochs: [1,\n")
    (folder / "list.yaml").write_text("- train\n- data\n")
    (folder / "flat.yaml").write_text("train: 3\n")
    (folder / "typo.yaml").write_text("train:\n  epoch: 3\n")
    (folder / "kind.yaml").write_text("train:\n  lr: fast\n")
    (folder / "zero.json").write_text('{"zero_optimization": {"stage": 1}')
    (folder / "zero-list.json").write_text("[]")


def _students(folder: Path) -> None:
    copy(folder, "student", "student-no-weights", {"model.safetensors": "-"})
    copy(folder, "student", "student-torn-json", {"config.json": None})
    copy(folder, "student", "student-list", {"config.json": "[]"})
    copy(folder, "student", "student-torn", {"model.safetensors": None})
    copy(folder, "student", "student-picture", {"model.safetensors": PNG})
    copy(folder, "student", "student-no-tokenizer", {"tokenizer.json": "-"})
    copy(folder, "student", "student-torn-tokenizer", {"tokenizer.json": None})
    copy(folder, "student", "student-facts", {"videoadviser.json": '{"max_tokens": "many"}'})
    config = json.loads((folder / "student/config.json").read_text())
    labels = {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}
    copy(folder, "student", "student-classes", {"config.json": json.dumps({**config, **labels})})
    copy(folder, "student", "student-kind", {"config.json": json.dumps({**config, "model_type": "yolo"})})
    copy(folder, "student", "student-wide", {"config.json": json.dumps({**config, "hidden_size": 64})})
    pickled = copy(folder, "student", "student-pickle", {"model.safetensors": "-"})
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")


@dataclass
class Texts:
    """A source of a few sentences without video."""

    task: str = "sentiment"
    dataset: str = "texts"

    def __iter__(self) -> Iterator[Any]:
        from shards.sources.record import Raw

        for number, split in enumerate(("train", "train", "valid", "test")):
            yield Raw(id=f"text-{number}", text=f"text number {number}", label=number, split=split)


def _shards(folder: Path) -> None:
    from shards.pack import Options, pack

    pack(Texts(), folder / "shards", Options(workers=1, progress=False))  # type: ignore[arg-type]
    pack(Texts("retrieval"), folder / "events", Options(workers=1, progress=False))  # type: ignore[arg-type]
    whole = json.loads((folder / "shards/manifest.json").read_text())
    copy(folder, "shards", "shards-torn", {"manifest.json": None})
    copy(folder, "shards", "shards-list", {"manifest.json": "[]"})
    copy(folder, "shards", "shards-picture", {"manifest.json": PNG})
    copy(folder, "shards", "shards-old", {"manifest.json": json.dumps({**whole, "format": 99})})
    test = {"test": {"samples": 0, "shards": [], "labels": {}}}
    copy(folder, "shards", "shards-no-test", {"manifest.json": json.dumps({**whole, "splits": whole["splits"] | test})})
    copy(folder, "shards", "shards-bad-tar", {"test/000000.tar": PNG})
    copy(folder, "shards", "shards-no-tar", {"test/000000.tar": "-"})


def _runs(folder: Path) -> None:
    from dataclasses import asdict

    from vadv import config_file
    from vadv.config import Config

    config = config_file.load(None, {"data.shards": str(folder / "shards"), "student.model": "tiny-bert"})
    scores = {"mae": 0.5, "acc7": 0.5, "acc5": 0.5, "acc2": 0.5, "f1": 0.5, "acc2_nonzero": 0.5, "f1_nonzero": 0.5}
    result = {
        "state": "finished",
        "seed": 1,
        "task": "sentiment",
        "dataset": "texts",
        "variant": "step",
        "splits": {"test": {"text": {**scores, "corr": 0.5, "n": 1}}},
        "config": asdict(config),
    }
    run = folder / "run"
    run.mkdir()
    (run / "config.yaml").write_text(config_file.dump(config))
    (run / "result.json").write_text(json.dumps(result))
    shutil.copytree(folder / "student", run / "student")
    assert isinstance(config, Config)
    copy(folder, "run", "run-torn", {"result.json": None})
    copy(folder, "run", "run-no-config", {"config.yaml": "-"})
    copy(folder, "run", "run-torn-config", {"config.yaml": "train: {epochs: [1,\n"})
    copy(folder, "run", "run-old-config", {"config.yaml": "train: {epoch: 3}\n"})
    copy(folder, "run", "run-no-splits", {"result.json": json.dumps({**result, "splits": {}})})
    copy(folder, "run", "run-list", {"result.json": "[]"})
    (copy(folder, "run", "run-torn-best") / "best.safetensors").write_bytes(PNG)


def _sources(folder: Path) -> None:
    """Raw data for pack.py."""
    tables = {
        "raw-no-label": "id,video,text,split\na,a.mp4,so so,train\n",
        "raw-header": HEADER,
        "raw-broken": HEADER + "a,a.mp4,so so,1,train\n",
        "raw-empty": "",
        "raw-picture": PNG,
        "raw-latin": (HEADER + "a,a.mp4,t\xeaxt,1,train\n").encode("latin-1"),
        "raw-semicolon": HEADER.replace(",", ";") + "a;a.mp4;so so;1;train\n",
        "raw-quote": HEADER + 'a,a.mp4,"so so,1,train\n',
    }
    for name, table in tables.items():
        (folder / name).mkdir()
        (folder / name / "clips.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    (folder / "raw-broken" / "a.mp4").write_bytes(PNG)
    for name, table in (("mmsa-no-mode", "video_id,clip_id,text,label\n"), ("mmsa-header", "a,b\n1,2\n")):
        (folder / name).mkdir()
        (folder / name / "label.csv").write_text(table)
    (folder / "one-class" / "bell").mkdir(parents=True)
    (folder / "no-videos" / "bell").mkdir(parents=True)
    (folder / "no-videos" / "rain").mkdir()


def _retrieval(folder: Path) -> None:
    """Students of the retrieval task, features, and an index."""
    import h5py
    import numpy as np

    from shards.features import described
    from vadv.models.eics import build_students
    from vadv.retrieval.folder import save_students
    from vadv.retrieval.index import Index, save_index

    for name in ("features", "features-part"):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for part, count in (("train", 20), ("test", 10)):
                file[f"audio_{part}"] = np.zeros((count, 128), np.float32)
                file[f"visual_{part}"] = np.zeros((count, 1024), np.float32)
                if (name, part) != ("features-part", "test"):
                    file[f"lab_{part}"] = np.arange(count) % 10
    (folder / "vegas").mkdir()
    students = build_students({"audio": 128, "visual": 1024}, hidden=8, classes=10, seed=1)
    classes = [f"class {number}" for number in range(10)]
    save_students(folder / "vegas", students, hidden=8, vector="logits", classes=classes, features=described({}))
    copy(folder, "vegas", "vegas-torn", {"model.safetensors": None})
    copy(folder, "vegas", "vegas-no-weights", {"model.safetensors": "-"})
    copy(folder, "vegas", "vegas-torn-json", {"config.json": None})
    clips = [
        {"id": f"clip-{n}", "dataset": "made", "split": "test", "label": n, "class": f"class {n}"} for n in range(3)
    ]
    vectors = {name: np.eye(3, 10, dtype=np.float32) for name in ("audio", "visual")}
    save_index(Index(clips=clips, vectors=vectors, students=str(folder / "vegas")), folder / "index")
    copy(folder, "index", "index-torn", {"vectors.safetensors": None})
    copy(folder, "index", "index-short", {"clips.jsonl": '{"id": "clip-0"}\n'})
    np.save(folder / "short.npy", np.zeros(7, np.float32))
    np.save(folder / "objects.npy", np.array([{}]), allow_pickle=True)


def _sweeps(folder: Path) -> None:
    """Sweep files with one mistake each."""
    base = {"base": "configs/sample.yaml"}
    mistakes: dict[str, dict[str, Any]] = {
        "sound": {},
        "no-base": {"base": ""},
        "base-gone": {"base": "configs/gone.yaml"},
        "unknown-axis": {"axes": {"train.learning_rate": [1e-5]}},
        "unlisted-axis": {"axes": {"train.lr": 1e-5}},
        "bad-value": {"axes": {"train.lr": [1e-5, "fast"]}},
        "no-seeds": {"seeds": []},
        "text-seeds": {"seeds": ["one"]},
        "excludes-nothing": {"axes": {"train.lr": [1e-5]}, "exclude": [{"train.lr": 1}]},
        "excludes-all": {"exclude": [{"seed": 1}]},
        "no-trials": {"random": {"trials": 0, "space": {"train.lr": {"low": 1, "high": 2}}}},
        "empty-range": {"random": {"trials": 2, "space": {"train.lr": {"low": 2, "high": 1}}}},
        "log-of-zero": {"random": {"trials": 2, "space": {"train.lr": {"low": 0, "high": 1, "log": True}}}},
        "batch": {"axes": {"train.batch_size": [3]}, "local": {"ranks": 2}},
        "signal": {"slurm": {"time": "0:01:00", "signal_delay": 120}},
        "managed": {"slurm": {"sbatch": {"nodes": 2}}},
        "unknown-sbatch": {"slurm": {"sbatch": {"exclud": "node7"}}},
        "time": {"slurm": {"time": "tomorrow"}},
        "unknown-key": {"seed": [1, 2]},
        "twice": {"axes": {"train.lr": [1e-5, 0.00001]}},
    }
    (folder / "sweeps").mkdir()
    for name, mistake in mistakes.items():
        (folder / "sweeps" / f"{name}.yaml").write_text(yaml.safe_dump({**base, **mistake}))
