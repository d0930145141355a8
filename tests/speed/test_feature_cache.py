"""Runs with cached features: the numbers of runs without, whoever filled the cache."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import Ranks, changed, logged, numbers, samples

from shards.clip import Clip
from shards.dataset import ClipSet
from vadv import config_file
from vadv.config import Config
from vadv.features.cache import FeatureCache, open_cache
from vadv.tasks.sentiment import Sentiment


@pytest.fixture(scope="module")
def uncached(ranks: Ranks, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One rank, nothing cached, one view."""
    run = tmp_path_factory.mktemp("uncached") / "run"
    assert ranks.train(tiny, run, world=1) == 0
    return run


def cached(settings: dict[str, Any], folder: Path, **teacher: Any) -> dict[str, Any]:
    return changed(settings, data={"cache_dir": str(folder)}, teacher={"cache_features": True, **teacher})


def predictions(run: Path) -> list[dict[str, str]]:
    with (run / "predictions" / "test.csv").open() as file:
        return list(csv.DictReader(file))


def records(folder: Path) -> int:
    return sum(path.stat().st_size // 32 for path in folder.rglob("*.idx"))


def test_cached_runs_have_the_numbers_of_an_uncached_one_bit_for_bit(
    ranks: Ranks, tiny: dict[str, Any], uncached: Path, tmp_path: Path
) -> None:
    settings = cached(tiny, tmp_path / "cache")
    for name in ("fills it", "finds it"):
        run = tmp_path / name / "run"
        assert ranks.train(settings, run, world=1) == 0
        assert numbers(run) == numbers(uncached) and samples(run) == samples(uncached)
        assert logged(run, "valid") == logged(uncached, "valid") and predictions(run) == predictions(uncached)
        result, plain = (json.loads((r / "result.json").read_text()) for r in (run, uncached))
        assert result["splits"] == plain["splits"] and result["parameters"] == plain["parameters"]
        clips = sum(result["clips"].values())
        assert records(tmp_path / "cache") == clips, "each clip is encoded once, for all epochs, splits and runs"


def test_a_cache_that_holds_some_of_a_batch_changes_nothing(
    ranks: Ranks, tiny: dict[str, Any], uncached: Path, tmp_path: Path
) -> None:
    """Less than half of the training clips have room."""
    size = (4 * 5 * 128 * 4 + 4095) // 4096 * 4096 + 32
    settings = cached(tiny, tmp_path / "cache", cache_bytes=20 * size + 2000)
    run = tmp_path / "run"
    assert ranks.train(settings, run, world=1) == 0
    assert numbers(run) == numbers(uncached)
    assert records(tmp_path / "cache") == 20


@pytest.mark.parametrize("stage", [1, 3])
def test_ranks_share_a_cache_though_they_miss_different_clips(
    ranks: Ranks, tiny: dict[str, Any], tmp_path: Path, stage: int
) -> None:
    """Also under ZeRO-3, where ranks must make the same calls of what is partitioned; the tower is not."""
    base = changed(tiny, deepspeed=f"configs/deepspeed/zero{stage}.json", data={"views": 2}, train={"epochs": 3})
    plain, run = tmp_path / "plain" / "run", tmp_path / "cached" / "run"
    assert ranks.train(base, plain) == 0
    assert ranks.train(cached(base, tmp_path / "cache"), run) == 0
    assert numbers(run) == numbers(plain) and predictions(run) == predictions(plain)
    clips = json.loads((run / "result.json").read_text())["clips"]
    once = 2 * clips["train"] + clips["valid"] + clips["test"]
    assert once <= records(tmp_path / "cache") <= once + clips["train"], "two views; a race may store a clip twice"


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
def test_half_precision_changes_tokens_by_its_rounding_only(
    tiny: dict[str, Any], tmp_path: Path, dtype: str, error: float
) -> None:
    settings = config_file.build(cached(tiny, tmp_path, cache_dtype=dtype))
    exact, cache, frames = _encoder(settings)
    tokens = cache.encode(frames, b"0" * 16)
    whole = exact.tokens(frames[None])[0]
    assert tokens.dtype == getattr(torch, dtype)
    assert (tokens.float() - whole).abs().le(error * whole.abs() + 1e-7).all()
    cache.close()
    _, again, _ = _encoder(settings)
    found = again.find(b"0" * 16)
    assert found is not None and torch.equal(found, tokens), "found and encoded are the same numbers"
    again.close()


def test_losses_of_a_half_precision_cache_stay_near(
    ranks: Ranks, tiny: dict[str, Any], uncached: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert ranks.train(cached(tiny, tmp_path / "cache", cache_dtype="bfloat16"), run, world=1) == 0
    near, plain = numbers(run), numbers(uncached)
    assert all(near[step]["loss"] == pytest.approx(plain[step]["loss"], rel=1e-2) for step in plain)
    assert near != plain


def test_other_weights_preprocessing_or_data_are_other_records(tiny: dict[str, Any], tmp_path: Path) -> None:
    settings = cached(tiny, tmp_path)
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 2},  # other random weights
        {"data": {"frames": 5}},
        {"data": {"frame_size": 32}},
        {"teacher": {"cache_dtype": "float16"}},
    ]
    keys = []
    for change in changes:
        _, cache, _ = _encoder(config_file.build(changed(settings, **change)))
        keys.append(cache.store.folder.name)
        cache.close()
    assert len(set(keys)) == len(changes)

    _, cache, _ = _encoder(config_file.build(settings))
    assert cache.store.folder.name == keys[0]
    clips = ClipSet(tiny["data"]["shards"], "train")
    names = {
        cache.of(clips, seed=1, views=2).name("sample", "a", 0),
        cache.of(clips, seed=1, views=2).name("sample", "a", 1),
        cache.of(clips, seed=2, views=2).name("sample", "a", 0),
        cache.of(clips).name("sample", "a", 0),
        cache.of(clips).name("sample", "b", 0),
        cache.of(ClipSet(tiny["data"]["shards"], "valid")).name("sample", "a", 0),
    }
    assert len(names) == 6
    cache.close()


def test_slots_without_a_clip_get_zeros(tiny: dict[str, Any], tmp_path: Path) -> None:
    settings = config_file.build(cached(tiny, tmp_path))
    task = Sentiment(settings, 4)
    cache = open_cache(task.module, settings, torch.float32, torch.device("cpu"))
    assert cache is not None and not hasattr(task.module.teacher, "clip")
    features = cache.of(ClipSet(tiny["data"]["shards"], "train"), seed=1, views=1)
    clips = [Clip(), Clip(id="a", dataset="sample", index=1, text="fine", frames=np.ones((4, 3, 64, 64), np.uint8))]
    batch = features.fill(task.collate(clips, 0), clips)
    assert batch.frames is None and batch.visual is not None
    assert not batch.visual[0].any() and batch.visual[1].any()
    assert torch.isfinite(task.module(batch)["loss"])
    nothing = features.fill(task.collate([Clip(), Clip()], 0), [Clip(), Clip()])
    assert nothing.visual is not None and not nothing.visual.any()
    cache.close()


def test_frames_drawn_afresh_cannot_be_cached(tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.views: expected .*1 or more, with teacher\.cache_features.*found 0"):
        config_file.build(changed(cached(tiny, tmp_path), data={"views": 0}))


def test_the_cache_lies_where_the_configuration_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", str(tmp_path))
    data = Config().data
    assert data.cache_folder() == tmp_path / "videoadviser"
    data.cache_dir = "/disk"
    assert data.cache_folder() == Path("/disk")


def _encoder(settings: Config) -> tuple[Any, FeatureCache, torch.Tensor]:
    """The tower, its cache, and some frames."""
    task = Sentiment(settings, 4)
    tower = task.module.teacher.clip
    cache = open_cache(task.module, settings, torch.float32, torch.device("cpu"))
    assert cache is not None
    data = settings.data
    generator = torch.Generator().manual_seed(1)
    shape = (data.frames, 3, data.frame_size, data.frame_size)
    return tower, cache, torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
