"""What is known of a retrieval run before it starts: its plan, the doctor's findings, debug mode's changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from training_runs import changed

from shards.sources import sources
from vadv import config_file, parts, tasks
from vadv.config import Config
from vadv.doctor import Finding, cache, machine
from vadv.doctor.weights import weights
from vadv.training.debug import small
from vadv.training.plan import plan

GIB = 2**30


def only(findings: Any) -> Finding:
    (finding,) = findings
    assert isinstance(finding, Finding)
    return finding


def test_the_plan_has_both_students_and_no_text(tiny: dict[str, Any]) -> None:
    text = plan(config_file.build(tiny), world_size=2)
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "audio student" in rows["student.audio"] and "visual student" in rows["student.visual"]
    assert "student.encoder" not in rows and "student.model" not in text and "tokens" not in text
    assert "teacher.clip configs/clip/tiny.json: random, from the seed" in text
    assert "8 clips a step = 2 GPU(s) x 4 clips x 1 micro-batch(es), 2 frames of 32 pixels\n" in text
    assert "Memory of each of 2 GPU(s)" in text
    alone = plan(config_file.build({**tiny, "teacher": None}), world_size=1)
    assert "none: all start random, from the seed" in alone and "frames" not in alone


def test_a_plan_without_shards_says_what_it_lacks(tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected shards in .*, found no manifest"):
        plan(config_file.build(changed(tiny, data={"shards": str(tmp_path)})), world_size=1)


@pytest.mark.parametrize(("free", "verdict"), [(1 * GIB, "fail"), (400 * GIB, "ok")])
def test_memory_is_held_against_the_plan(event_shards: Path, free: int, verdict: str) -> None:
    config = config_file.load("configs/vegas.yaml", {"data.shards": str(event_shards)})
    finding = only(machine._memory(config, 1, 1, free=free, host=free, margin=machine.GPU_MARGIN))
    assert finding.verdict == verdict
    assert float(re.search(r"needs (\d+\.\d) GiB", finding.text)[1]) > 2  # type: ignore[index]


def test_nothing_is_held_against_a_text_student(tiny: dict[str, Any], tmp_path: Path) -> None:
    """roberta-large, the default of `student.model`, is neither loaded nor given room for."""
    cached = changed(tiny, data={"cache_dir": str(tmp_path), "views": 1}, teacher={"cache_features": True})
    taught = config_file.build(cached)
    found = only(weights(taught, config_file.dump(taught), fetch=True))
    assert found.verdict == "ok" and found.text.startswith("teacher:") and "random weights" in found.text
    assert float(only(machine.room(taught, tmp_path / "run")).text.split()[0]) < 1
    assert "features of" in only(cache.cache(taught)).text
    alone = config_file.build({**tiny, "teacher": None})
    assert only(weights(alone, config_file.dump(alone), fetch=False)).text.startswith("none to be loaded")


def test_debug_mode_leaves_the_text_student_alone(tiny: dict[str, Any]) -> None:
    config = config_file.build(tiny)
    made, lines = small(config)
    assert made.student == config.student and not any("student" in line for line in lines)


def test_every_task_has_clips_to_be_drawn() -> None:
    for name in parts.names("vadv.tasks"):
        assert tasks.kind(Config(task=name)).sample in sources()
