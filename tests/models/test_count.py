"""Parameter counts of the full sizes, on the meta device, against those that were published (FACTS 1, Table 5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vadv.config import Config, CrossFrame
from vadv.models.count import count
from vadv.training.shapes import meta_task


def millions(config: Config) -> dict[str, float]:
    return {row.module: row.total / 1e6 for row in count(meta_task(config).module)}


def test_teacher_as_xclip_large() -> None:
    """X-CLIP L/14: vision 429.2 M, 126.0 M of it messages; MIT 7.1 M; prompting 15.0 M; text 123.1 M + projection."""
    config = Config()
    assert config.teacher is not None
    config.teacher = replace(config.teacher, cct=CrossFrame(placement="inside"), prompting="xclip", trainable_text=True)
    rows = {row.module: row for row in count(meta_task(config).module)}
    assert (rows["teacher.clip"].total + rows["teacher.cct"].total) / 1e6 == pytest.approx(429.2, abs=0.05)
    assert rows["teacher.cct"].trainable / 1e6 == pytest.approx(126.0, abs=0.05)
    assert rows["teacher.mit"].total / 1e6 == pytest.approx(7.1, abs=0.05)
    assert (rows["teacher.prompting"].total + rows["teacher.context"].total) / 1e6 == pytest.approx(15.0, abs=0.05)
    projection = 768 * 768 / 1e6
    assert rows["teacher.text"].total / 1e6 - projection == pytest.approx(123.1, abs=0.05)


def test_default_teacher_is_frozen_clip_and_small_new_parts() -> None:
    rows = {row.module: row for row in count(meta_task(Config()).module)}
    assert rows["teacher.clip"].frozen / 1e6 == pytest.approx(303.2, abs=0.05)
    assert rows["teacher.clip"].trainable == 0 and rows["teacher.head"].trainable == 0
    assert "teacher.text" not in rows, "frozen prompts are encoded once, the tower is not kept"
    trainable = sum(r.trainable for name, r in rows.items() if name.startswith("teacher."))
    assert trainable / 1e6 == pytest.approx(53.5, abs=0.1)


@pytest.mark.parametrize(
    ("model", "published", "pooler"),
    [("roberta-large", 355.36, 1024), ("roberta-base", 124.65, 768), ("bert-base-uncased", 109.48, 768)],
)
def test_students(model: str, published: float, pooler: int) -> None:
    """Published sizes include a pooling layer, which the student does not have."""
    config = Config()
    config.teacher = None
    config.student = replace(config.student, model=model)
    rows = millions(config)
    assert set(rows) == {"student.encoder", "student.head"}
    assert rows["student.encoder"] + (pooler**2 + pooler) / 1e6 == pytest.approx(published, abs=0.02)


def test_frozen_and_trainable_follow_the_switches() -> None:
    config = Config()
    assert config.teacher is not None
    config.teacher = replace(config.teacher, trainable_blocks=2)
    config.student = replace(config.student, frozen=True)
    config.objective = replace(config.objective, variant="none")
    rows = {row.module: row for row in count(meta_task(config).module)}
    assert rows["teacher.tail"].trainable == 2 * 12_596_224
    assert rows["student.encoder"].trainable == 0 < rows["student.encoder"].frozen
    assert rows["teacher.prompt_logit"].trainable == 0, "nothing reaches it without the first step"
