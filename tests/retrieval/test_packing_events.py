"""Packing of events: vectors in the shards, clips without sound left out, features without video."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from event_data import media

from shards.audio import decode_sound, log_mel_statistics
from shards.dataset import ClipSet
from shards.manifest import read_manifest
from shards.pack import Options, pack
from shards.sources.vegas import Vegas
from shards.vectors import read_vectors

TINY_CLIP = "configs/clip/tiny.json"


def test_shards_carry_the_vectors_of_their_clips(event_shards: Path, event_corpus: Path) -> None:
    manifest = read_manifest(event_shards)
    assert manifest.task == "retrieval" and manifest.dataset == "sample-events"
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 30, "valid": 10, "test": 10}
    found = read_vectors(ClipSet(str(event_shards), "train"))
    assert found.audio.shape == (30, 128) and found.visual.shape == (30, 128) and found.video
    assert sorted(np.bincount(found.labels)) == [3] * 10
    for row in (0, 17):
        wave = decode_sound(event_corpus / "clips" / f"{found.ids[row]}.mp4")
        np.testing.assert_allclose(found.audio[row], log_mel_statistics(wave), rtol=1e-5, atol=1e-5)


def test_visual_vectors_are_mean_and_deviation_of_clips_embeddings(event_shards: Path) -> None:
    from shards.visual import ClipVisual

    frames = np.random.default_rng(0).integers(0, 255, (8, 60, 80, 3), dtype=np.uint8)
    frames[4:] = frames[:4]
    embed = ClipVisual(TINY_CLIP, "random")
    whole, half = embed(frames), embed(frames[:4])
    assert whole.shape == (128,)
    np.testing.assert_allclose(whole, half, atol=1e-5)  # repeating frames changes neither
    np.testing.assert_allclose(embed(frames[:1])[64:], 0, atol=1e-6)  # one frame does not deviate
    np.testing.assert_allclose(whole[:64], np.mean([embed(f[None])[:64] for f in frames], axis=0), atol=1e-5)


def test_a_few_vectors_are_spread_evenly(event_shards: Path) -> None:
    clips = ClipSet(str(event_shards), "train")
    some, all_ = read_vectors(clips, most=4), read_vectors(clips)
    assert some.ids == [all_.ids[i] for i in (0, 10, 19, 29)]


def test_clips_without_sound_are_rejected_with_that_cause(event_corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for name in ("bell", "rain"):
        (root / name).mkdir(parents=True)
        for number in range(10):
            shutil.copy(event_corpus / "clips" / f"event-{number:05d}.mp4", root / name / f"{number}.mp4")
    (root / "bell" / "mute.mp4").write_bytes(media(None))
    (root / "rain" / "silent.mp4").write_bytes(media(np.zeros((1, 16000))))
    source = Vegas(root=root, clip=TINY_CLIP, clip_weights="random")
    out = tmp_path / "shards"
    pack(source, out, Options(shard_clips=8, progress=False))
    with (out / "rejected.csv").open(newline="") as file:
        rejected = {row["id"]: row["cause"] for row in csv.DictReader(file)}
    assert rejected == {"bell/mute": "no sound", "rain/silent": "no sound"}
    assert sum(split.samples for split in read_manifest(out).splits.values()) == 20
    assert json.loads((out / "manifest.json").read_text())["packing"]["rejected"] == {"no sound": 2}


def test_features_without_video_are_packed_and_verified(feature_shards: Path) -> None:
    from shards.verify import verify

    found = read_vectors(ClipSet(str(feature_shards), "test"))
    assert not found.video and found.audio.shape == (40, 128) and found.visual.shape == (40, 1024)
    report = verify(feature_shards, workers=1, progress=False)
    assert not report.faults


def test_shards_without_vectors_are_told(plain_shards: Path) -> None:
    with pytest.raises(ValueError, match=r"found no audio\.npy and no visual\.npy in sample 00000000 of train"):
        read_vectors(ClipSet(str(plain_shards), "train"))
