"""The retrieval task: what it refuses, how it makes batches, what its metrics are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import changed

from shards.clip import Clip
from vadv import config_file
from vadv.tasks.retrieval import Retrieval


@pytest.fixture(scope="module")
def task(feature_shards: Path) -> Retrieval:
    """Students alone, on a feature file."""
    settings = {"task": "retrieval", "teacher": None, "data": {"shards": str(feature_shards)}}
    return Retrieval(config_file.build(settings), clips=70)


def clip(index: int = 0, **changes: Any) -> Clip:
    """A good clip of the feature file's widths."""
    rng = np.random.default_rng(index)
    facts: dict[str, Any] = {
        "id": f"c{index}",
        "dataset": "d",
        "index": index,
        "label": float(index % 10),
        "audio": rng.normal(size=128).astype(np.float32),
        "visual": rng.normal(size=1024).astype(np.float32),
    }
    return Clip(**{**facts, **changes})


def test_batches_hold_vectors_classes_and_weights(task: Retrieval) -> None:
    clips = [clip(0), clip(13), Clip()]
    batch = task.collate(clips, epoch=0)
    assert batch.audio is not None and batch.image is not None
    assert batch.audio.shape == (3, 128) and batch.image.shape == (3, 1024)
    assert batch.label.tolist() == [0, 3, 0] and batch.label.dtype == torch.int64
    assert batch.weight.tolist() == [1, 1, 0]
    np.testing.assert_array_equal(batch.image[1].numpy(), clips[1].visual)
    assert batch.frames is None and batch.text is None
    output = task.module(batch)
    assert set(output["terms"]) == {"audio_ce", "visual_ce", "explicit", "implicit"}
    assert torch.isfinite(output["loss"])


@pytest.mark.parametrize(
    ("changes", "cause", "detail"),
    [
        ({"audio": None}, "missing", r"no audio\.npy"),
        ({"visual": np.zeros(7, np.float32)}, "invalid", r"visual\.npy: expected 1024 numbers, found 7"),
        ({"label": 10.0}, "invalid", "class below 10, found 10"),
        ({"label": -1.0}, "invalid", "class below 10"),
    ],
)
def test_a_clip_that_does_not_fit_counts_as_bad(
    task: Retrieval, changes: dict[str, Any], cause: str, detail: str
) -> None:
    import re

    good, bad = clip(1), clip(2, **changes)
    batch = task.collate([good, bad], epoch=0)
    assert batch.weight.tolist() == [1, 0]
    assert bad.fault is not None and bad.fault.cause == cause and re.search(detail, bad.fault.detail)
    assert good.fault is None


def test_metrics_are_those_of_the_logits(task: Retrieval) -> None:
    from vadv import metrics

    rng = np.random.default_rng(0)
    audio, visual, label = rng.normal(size=(40, 10)), rng.normal(size=(40, 10)), np.arange(40) % 10
    table: dict[str, np.ndarray] = {"index": np.arange(40.0), "label": label.astype(float)}
    for c in range(10):
        table[f"audio_{c}"], table[f"visual_{c}"] = audio[:, c], visual[:, c]
    found = task.metrics(table)
    expected = metrics.retrieval(audio, visual, label)
    assert {key: found["students"][key] for key in expected} == expected
    assert found["students"]["recall5_a2v"] == metrics.recall_at_k(audio, visual)[5]
    assert found["audio"]["accuracy"] == np.mean(audio.argmax(1) == label)
    assert found[task.measure.output][task.measure.metric] == pytest.approx(expected["map_mean"])


def test_features_are_standardised_with_the_training_split(task: Retrieval, feature_shards: Path) -> None:
    from shards.dataset import ClipSet
    from shards.vectors import read_vectors

    train = read_vectors(ClipSet(str(feature_shards), "train"))
    student = task.module.student["audio"]  # type: ignore[index, union-attr, operator]
    np.testing.assert_allclose(student.mean.numpy(), train.audio.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(student.std.numpy(), train.audio.std(0), rtol=1e-4)


@pytest.mark.parametrize(
    ("sides", "terms"), [("visual", {"visual"}), ("audio", {"audio"}), ("both", {"audio", "visual"})]
)
def test_sides_decide_who_is_taught(tiny: dict[str, Any], sides: str, terms: set[str]) -> None:
    settings = config_file.build(changed(tiny, retrieval={"sides": sides}))
    module = Retrieval(settings, clips=30).module
    assert set(module.objective.second) == terms  # type: ignore[arg-type, union-attr]


@pytest.mark.parametrize(
    ("variant", "first", "second"),
    [
        ("step", "Step", "Step"),
        ("kd", "KD", "KD"),
        ("fitnet", "FitNet", "FitNet"),
        ("pkt", "PKT", "PKT"),
        ("crd", "Step", "CRD"),
        ("step-without-first", None, "Step"),
        ("none", None, None),
    ],
)
def test_a_variant_works_in_both_steps(
    tiny: dict[str, Any], variant: str, first: str | None, second: str | None
) -> None:
    """Table 11: KD, FitNet and PKT from prompt to video, and from video to either student, on 10-wide logits."""
    module: Any = Retrieval(config_file.build(changed(tiny, objective={"variant": variant})), clips=30).module
    made = module.objective.first
    assert (None if made is None else type(made).__name__) == first
    names = {name: type(transfer).__name__ for name, transfer in module.objective.second.items()}
    assert names == ({} if second is None else {"audio": second, "visual": second})
    if variant in ("kd", "pkt"):
        assert {made.acts_on, *(transfer.acts_on for transfer in module.objective.second.values())} == {"logit"}


def test_a_combined_set_of_vectors_made_differently_is_refused(event_shards: Path, tmp_path: Path) -> None:
    import json
    import shutil

    other = tmp_path / "other"
    shutil.copytree(event_shards, other)
    content = json.loads((other / "manifest.json").read_text())
    content["packing"]["audio"] = "0" * 64  # a VGGish; as wide as log-mel statistics
    (other / "manifest.json").write_text(json.dumps(content))
    settings = {"task": "retrieval", "teacher": None, "data": {"shards": [str(event_shards), str(other)]}}
    refuse(settings, "expected audio vectors that were made in one way, found 0000.* and log-mel mean and deviation")


def refuse(settings: dict[str, Any], message: str) -> None:
    """Building raises one line."""
    with pytest.raises(ValueError, match=message) as caught:
        Retrieval(config_file.build(settings), clips=30)
    assert "\n" not in str(caught.value)


def test_a_teacher_without_video_says_so(tiny: dict[str, Any], feature_shards: Path) -> None:
    refuse(changed(tiny, data={"shards": str(feature_shards)}), "expected clips with video, found features only")


def test_shards_of_another_task_are_refused(tiny: dict[str, Any], plain_shards: Path) -> None:
    refuse(changed(tiny, data={"shards": str(plain_shards)}), "expected shards of the retrieval task, found sentiment")


def test_a_class_without_prompt_is_refused(tiny: dict[str, Any]) -> None:
    refuse(changed(tiny, teacher={"classes": ["dog", "drum"]}), "teacher.classes: expected a name for each of 10")


def test_a_teacher_of_faces_needs_faces(tiny: dict[str, Any]) -> None:
    refuse(changed(tiny, teacher={"face": True}), "teacher.face: expected face features")


def test_sets_of_different_features_are_not_mixed(event_shards: Path, feature_shards: Path) -> None:
    settings = {
        "task": "retrieval",
        "teacher": None,
        "data": {"shards": [str(event_shards), str(feature_shards)]},
    }
    refuse(settings, "expected visual vectors of one width, found 128 in clip event-.* and 1024 in train-")
