"""CCT inside CLIP, MIT and X-CLIP's prompting equal transformers' X-CLIP, in outputs and in gradients.

Compared in float64: the norms after CLIP's small embeddings and the scale of the logits amplify float32's rounding, which is
not the same on all CPUs, beyond any tolerance that would still find a mistake.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import XCLIPConfig, XCLIPModel

from vadv import config
from vadv.models import MultiFrameTransformer, VideoSpecificPrompting, build_teacher
from vadv.models.teacher import Teacher
from vadv.models.xclip import from_hugging_face

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


def reference(width: int, heads: int, layers: int, frames: int, mit_layers: int = 1, embed: int = 128) -> XCLIPModel:
    """A tiny X-CLIP of transformers, with weights large enough to matter."""
    settings = XCLIPConfig(
        projection_dim=embed,
        prompt_num_attention_heads=embed // 64,
        text_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        vision_config={
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "mit_hidden_size": embed,
            "mit_intermediate_size": 4 * embed,
            "mit_num_hidden_layers": mit_layers,
            "mit_num_attention_heads": embed // 64,
            "image_size": 32,
            "patch_size": 16,
            "num_frames": frames,
        },
    )
    torch.manual_seed(0)
    model = XCLIPModel(settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale" and "embed" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def teacher_of(folder: Path, frames: int, mit_layers: int = 1, **changes: Any) -> Teacher:
    """The teacher that such a folder initialises, all of it trainable."""
    settings = config.Teacher(
        clip=str(folder),
        cct=config.CrossFrame(placement="inside"),
        prompting="xclip",
        trainable_text=True,
        face=False,
        mit_layers=mit_layers,
        **changes,
    )
    return build_teacher(settings, seed=1, frames=frames, frame_size=32).eval().requires_grad_(True)


SHAPES = pytest.mark.parametrize(
    ("width", "heads", "layers", "frames", "mit_layers"),
    [(64, 1, 1, 4, 1), (128, 2, 2, 8, 1), (64, 4, 3, 8, 2), (192, 3, 2, 4, 3)],
)


def run_both(theirs: XCLIPModel, ours: Teacher, frames: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same video and prompts through both: tokens, video representation, prompts, logits."""
    video = torch.randint(0, 256, (2, frames, 3, 32, 32), dtype=torch.uint8)
    expected = theirs(input_ids=ours.prompt_ids, pixel_values=ours.clip.normalise(video))
    tokens = ours.cct(ours.clip.tokens(video))
    seen = ours.mit(ours.head(tokens[:, :, 0]))
    prompts = F.normalize(ours.prompting(ours.text(ours.prompt_ids), ours.context(tokens)), dim=-1)
    logits = ours.scale * torch.einsum("bcd,bd->bc", prompts, F.normalize(seen, dim=-1))
    return (
        {"tokens": tokens.flatten(0, 1), "video": seen, "prompts": prompts, "logits": logits},
        {
            "tokens": expected.vision_model_output.last_hidden_state,
            "video": expected.mit_output.pooler_output,
            "prompts": expected.text_embeds,
            "logits": expected.logits_per_video,
        },
    )


@SHAPES
def test_outputs_equal(tmp_path: Path, width: int, heads: int, layers: int, frames: int, mit_layers: int) -> None:
    theirs = reference(width, heads, layers, frames, mit_layers)
    theirs.save_pretrained(tmp_path)
    ours = teacher_of(tmp_path, frames, mit_layers).double()
    assert ours.unmatched == []
    found, expected = run_both(theirs.double(), ours, frames)
    torch.testing.assert_close(found, expected, **TOLERANCE)


@SHAPES
def test_gradients_equal(tmp_path: Path, width: int, heads: int, layers: int, frames: int, mit_layers: int) -> None:
    theirs = reference(width, heads, layers, frames, mit_layers)
    theirs.save_pretrained(tmp_path)
    ours = teacher_of(tmp_path, frames, mit_layers).double()
    found, expected = run_both(theirs.double(), ours, frames)
    torch.testing.assert_close(found["logits"], expected["logits"], **TOLERANCE)
    direction = torch.randn(found["logits"].shape)
    (found["logits"] * direction).sum().backward()
    (expected["logits"] * direction).sum().backward()
    gradients = {k: p.grad for k, p in theirs.named_parameters() if p.grad is not None}
    clip, extra, unmatched = from_hugging_face(gradients)
    assert unmatched == []
    named = {k: p.grad for k, p in ours.named_parameters() if p.grad is not None}
    compared = 0
    for key, gradient in (clip | extra).items():
        if key.startswith("embed."):  # frozen here: no gradient is computed
            continue
        name = f"cct.{key}" if key.startswith("blocks.") else key
        torch.testing.assert_close(named[name], gradient, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
        compared += 1
    assert compared == len(named)


def test_modules_alone_equal_theirs() -> None:
    """MIT and prompting by their public classes, with X-CLIP's heads for another width."""
    theirs = reference(64, 1, 1, 8, mit_layers=2).double()
    _, extra, _ = from_hugging_face(theirs.state_dict())
    mit = MultiFrameTransformer(128, frames=8, layers=2, heads=2).double()
    mit.load_state_dict({k[4:]: v for k, v in extra.items() if k.startswith("mit.")})
    x = torch.randn(3, 8, 128, dtype=torch.float64)
    torch.testing.assert_close(mit(x), theirs.mit(x).pooler_output, **TOLERANCE)
    prompting = VideoSpecificPrompting(128, "xclip", heads=2).double()
    prompting.load_state_dict({k[10:]: v for k, v in extra.items() if k.startswith("prompting.")})
    text, visual = torch.randn(2, 128, dtype=torch.float64), torch.randn(3, 5, 128, dtype=torch.float64)
    expected = text + theirs.prompts_generator(text.expand(3, 2, 128), visual)
    torch.testing.assert_close(prompting(text, visual), expected, **TOLERANCE)


def test_each_unmatched_key_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reference(64, 1, 2, 8).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["vision_model.wings"] = torch.zeros(3)
    del weights["prompts_generator.alpha"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    teacher = teacher_of(tmp_path, frames=4)
    reported = "\n".join(teacher.unmatched)
    assert "vision_model.wings: nothing here has such weights" in reported
    assert "prompts_generator.alpha: not in the folder" in reported
    assert "mit.position (1, 8, 128): expected shape (1, 4, 128)" in reported
    assert len(teacher.unmatched) == 3
    assert all(line in caplog.text for line in teacher.unmatched)
    assert torch.equal(teacher.prompting.alpha, torch.full((128,), 0.1))


def test_incomplete_clip_is_refused(tmp_path: Path) -> None:
    reference(64, 1, 2, 4).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of CLIP's own, first blocks\.1\.attention\.qkv\.weight"):
        teacher_of(tmp_path, frames=4)


def test_only_messages_are_new_and_only_they_train(tmp_path: Path) -> None:
    reference(64, 1, 2, 4).save_pretrained(tmp_path)
    settings = config.Teacher(clip=str(tmp_path), cct=config.CrossFrame(placement="inside"), trainable_blocks=1)
    teacher = build_teacher(settings, seed=1, frames=4, frame_size=32)
    trained = {n for n, p in teacher.cct.named_parameters() if p.requires_grad}
    assert {n for n in trained if n.startswith("blocks.0.") and "message" not in n} == set()
    assert len([n for n in trained if n.startswith("blocks.1.") and "message" not in n]) == 12
    old = {id(p) for p in teacher.pretrained_parameters()}
    fresh = {n for n, p in teacher.named_parameters() if id(p) not in old}
    assert {n.split(".")[0] for n in fresh} == {"face", "fuse", "prompting", "video_logit", "prompt_logit"}


def test_frame_size_must_be_the_folders(tmp_path: Path) -> None:
    reference(64, 1, 1, 4).save_pretrained(tmp_path)
    settings = config.Teacher(clip=str(tmp_path), cct=config.CrossFrame(placement="inside"))
    with pytest.raises(ValueError, match=r"data\.frame_size: expected 32"):
        build_teacher(settings, seed=1, frames=4, frame_size=64)
