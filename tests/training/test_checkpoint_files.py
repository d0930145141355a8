"""A checkpoint folder is complete or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shards.checksum import sha256_of
from vadv.training import checkpoints


def make(folder: Path, step: int, keep: int = 10) -> Path:
    saving = folder / checkpoints.SAVING / f"step-{step}"
    saving.mkdir(parents=True)
    (saving / "weights.pt").write_bytes(bytes(range(256)) * step)
    files = {"weights.pt": {"bytes": 256 * step, "sha256": sha256_of(saving / "weights.pt")}}
    content: dict[str, Any] = {"files": files, "step": step, "world_size": 2, "zero_stage": 1, "state": {"step": step}}
    return checkpoints.publish(saving, folder, content, keep)


def test_the_newest_complete_one_is_found(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        make(tmp_path, step)
    found, torn = checkpoints.newest(tmp_path)
    assert found is not None and found.step == 100 and torn == []
    assert (tmp_path / checkpoints.LATEST).read_text() == "step-100\n"


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) == (None, [])


def truncated(path: Path) -> None:
    (path / "weights.pt").write_bytes((path / "weights.pt").read_bytes()[:-1])


def flipped(path: Path) -> None:
    content = bytearray((path / "weights.pt").read_bytes())
    content[7] ^= 1
    (path / "weights.pt").write_bytes(content)


def removed(path: Path) -> None:
    (path / "weights.pt").unlink()


def unfinished(path: Path) -> None:
    (path / checkpoints.COMPLETE).unlink()


def garbled(path: Path) -> None:
    (path / checkpoints.COMPLETE).write_text('{"files": {')


@pytest.mark.parametrize("damage", [truncated, flipped, removed, unfinished, garbled])
def test_a_torn_one_is_named_and_passed_over(tmp_path: Path, damage: Any) -> None:
    make(tmp_path, 1)
    damage(make(tmp_path, 2))
    found, torn = checkpoints.newest(tmp_path)
    assert found is not None and found.step == 1
    assert len(torn) == 1 and "step-2" in torn[0] and "\n" not in torn[0]


def test_pruning_keeps_the_newest_complete_ones_and_counts_no_torn_one(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        make(tmp_path, step)
    unfinished(tmp_path / "step-3")
    make(tmp_path, 4, keep=2)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-2", "step-3", "step-4"]


def test_a_save_cut_short_is_removed_at_the_next_start(tmp_path: Path) -> None:
    make(tmp_path, 1)
    (tmp_path / checkpoints.SAVING / "step-2").mkdir(parents=True)
    checkpoints.clean(tmp_path)
    assert not (tmp_path / checkpoints.SAVING).exists() and (tmp_path / "step-1").is_dir()


def test_a_step_saved_again_replaces_a_torn_one(tmp_path: Path) -> None:
    unfinished(make(tmp_path, 5))
    make(tmp_path, 5)
    assert checkpoints.read(tmp_path / "step-5").step == 5
