"""Packing of events: vectors in the shards, clips without sound left out, features without video."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from event_data import media, onnx_mean

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


def image_model(path: Path) -> Path:
    """A model that means each channel of (1, 3, 32, 32) → (1, 3)."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_users_image_model_sees_what_clip_would(tmp_path: Path) -> None:
    from shards.frames import show
    from shards.visual import CLIP_MEAN, CLIP_STD, OnnxVisual

    frames = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
    pixels = np.empty((8, 3, 32, 32), np.uint8)
    show(frames, pixels)
    channels = (pixels.astype(np.float64) / 255).mean(axis=(2, 3))
    rows = (channels - CLIP_MEAN) / CLIP_STD
    found = OnnxVisual(image_model(tmp_path / "image.onnx"))(frames)
    np.testing.assert_allclose(found, [*rows.mean(0), *rows.std(0)], rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"expected an input \(N, 3, S, S\) with a fixed S"):
        OnnxVisual(onnx_mean(tmp_path / "flat.onnx", ["p", 96, 64], [1, 2]))


def two_classes(event_corpus: Path, root: Path, clips: int = 10) -> Path:
    """Clips of two classes in VEGAS' layout."""
    for number in range(clips):
        path = root / ("bell" if number % 2 else "rain") / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(event_corpus / "clips" / f"event-{number:05d}.mp4", path)
    return root


def test_a_users_onnx_models_make_the_vectors(event_corpus: Path, tmp_path: Path) -> None:
    from shards.audio import OnnxAudio
    from shards.features import described, digest

    vggish, image = onnx_mean(tmp_path / "vggish.onnx", ["p", 96, 64], [1, 2]), image_model(tmp_path / "image.onnx")
    root, out = two_classes(event_corpus, tmp_path / "videos", 20), tmp_path / "shards"
    pack(Vegas(root=root, audio_onnx=vggish, visual_onnx=image), out, Options(progress=False))
    manifest = read_manifest(out)
    assert described(manifest.packing) == {"audio": digest(vggish), "visual": digest(image)}
    found = read_vectors(ClipSet(str(out), "train"))
    assert found.audio.shape == (len(found), 1) and found.visual.shape == (len(found), 6)
    hear = OnnxAudio(vggish)
    for row, identity in enumerate(found.ids):
        expected = hear(decode_sound(root / f"{identity}.mp4"))
        np.testing.assert_allclose(found.audio[row], expected, rtol=1e-5)
    assert found.visual[:, 3:].min() >= 0 and found.visual.std() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": TINY_CLIP, "clip_weights": "nowhere.pt"}, "--clip-weights: cannot load nowhere.pt"),
        ({"clip": "configs/clip/none.json"}, "--clip: expected an open_clip model JSON"),
        ({"visual_onnx": "broken.onnx"}, "broken.onnx: expected an ONNX model"),
        ({"clip": TINY_CLIP, "clip_weights": "random", "audio_onnx": "none.onnx"}, "found no file"),
    ],
)
def test_a_model_that_is_not_there_stops_before_the_first_clip(
    event_corpus: Path, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    made = {name: tmp_path / value if name.endswith("onnx") else value for name, value in options.items()}
    root = two_classes(event_corpus, tmp_path / "videos")
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        pack(Vegas(root=root, **made), tmp_path / "shards", Options(progress=False))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "shards").rglob("*.tar"))


def test_vectors_from_files_need_no_model(event_corpus: Path, tmp_path: Path) -> None:
    from shards.features import described

    root = two_classes(event_corpus, tmp_path / "videos", 20)
    for video in root.rglob("*.mp4"):
        for name, width in (("audio", 5), ("visual", 7)):
            path = tmp_path / name / video.relative_to(root).with_suffix(".npy")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.full(width, float(video.stem)))
    given = {"audio_features": tmp_path / "audio", "visual_features": tmp_path / "visual"}
    pack(Vegas(root=root, clip_weights="nowhere.pt", **given), tmp_path / "shards", Options(progress=False))
    assert described(read_manifest(tmp_path / "shards").packing) == {"audio": "given", "visual": "given"}
    found = read_vectors(ClipSet(str(tmp_path / "shards"), "train"))
    np.testing.assert_array_equal(found.audio, [[float(i.split("/")[1])] * 5 for i in found.ids])
    assert found.visual.shape[1] == 7 and found.video


def test_features_without_video_are_packed_and_verified(feature_shards: Path) -> None:
    from shards.verify import verify

    found = read_vectors(ClipSet(str(feature_shards), "test"))
    assert not found.video and found.audio.shape == (40, 128) and found.visual.shape == (40, 1024)
    report = verify(feature_shards, workers=1, progress=False)
    assert not report.faults


def test_shards_without_vectors_are_told(plain_shards: Path) -> None:
    with pytest.raises(ValueError, match=r"found no audio\.npy and no visual\.npy in sample 00000000 of train"):
        read_vectors(ClipSet(str(plain_shards), "train"))
