"""CLIP's frozen features are the same through open_clip, through transformers and here, from the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from vadv import config
from vadv.models import build_teacher, clip_weights

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
PROMPTS = ["A video with the negative face", "A video with the positive face"]


def sizes(quick_gelu: bool) -> dict[str, Any]:
    return {
        "embed_dim": 64,
        "quick_gelu": quick_gelu,
        "vision_cfg": {"image_size": 64, "layers": 3, "width": 128, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
    }


@pytest.fixture(params=[True, False], ids=["quick_gelu", "gelu"])
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Path, Path]:
    """An open_clip model with its JSON and file of weights."""
    path = tmp_path / f"tiny{request.param}.json"
    path.write_text(json.dumps(sizes(request.param)))
    torch.manual_seed(0)
    model = open_clip.CLIP(**sizes(request.param)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "resblocks" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "w.safetensors")
    return model, path, tmp_path / "w.safetensors"


def hugging_face_twin(model: Any, quick_gelu: bool) -> CLIPModel:
    """transformers' CLIP with open_clip's weights, mapped here by hand."""
    act = "quick_gelu" if quick_gelu else "gelu"
    settings = CLIPConfig(
        projection_dim=64,
        text_config={
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "hidden_act": act,
        },
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
            "hidden_act": act,
        },
    )
    twin = CLIPModel(settings).eval()
    s = {k: v.detach() for k, v in model.state_dict().items()}
    out: dict[str, Tensor] = {
        "logit_scale": s["logit_scale"],
        "visual_projection.weight": s["visual.proj"].T,
        "text_projection.weight": s["text_projection"].T,
        "vision_model.embeddings.class_embedding": s["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": s["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": s["visual.positional_embedding"],
        "text_model.embeddings.token_embedding.weight": s["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": s["positional_embedding"],
    }
    for theirs, ours in [
        ("vision_model.pre_layrnorm", "visual.ln_pre"),
        ("vision_model.post_layernorm", "visual.ln_post"),
        ("text_model.final_layer_norm", "ln_final"),
    ]:
        out |= {f"{theirs}.{k}": s[f"{ours}.{k}"] for k in ("weight", "bias")}
    for side, prefix, layers in [("vision_model", "visual.", 3), ("text_model", "", 2)]:
        for i in range(layers):
            a, b = f"{side}.encoder.layers.{i}", f"{prefix}transformer.resblocks.{i}"
            for kind in ("weight", "bias"):
                q, k, v = s[f"{b}.attn.in_proj_{kind}"].chunk(3)
                out |= {f"{a}.self_attn.{n}_proj.{kind}": x for n, x in zip("qkv", (q, k, v), strict=True)}
                for n, m in [
                    ("self_attn.out_proj", "attn.out_proj"),
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ]:
                    out[f"{a}.{n}.{kind}"] = s[f"{b}.{m}.{kind}"]
    missing, unexpected = twin.load_state_dict(out, strict=False)
    assert not unexpected and all("position_ids" in k for k in missing)
    return twin


def test_three_implementations_agree(weights: tuple[Any, Path, Path], tmp_path: Path) -> None:
    model, path, file = weights
    quick = json.loads(path.read_text())["quick_gelu"]
    twin = hugging_face_twin(model, quick)
    twin.save_pretrained(tmp_path / "hf")
    frames = torch.randint(0, 256, (2, 3, 3, 64, 64), dtype=torch.uint8)
    results = []
    for settings in (
        config.Teacher(clip=str(path), weights=str(file)),
        config.Teacher(clip=str(tmp_path / "hf"), weights="unused"),
    ):
        teacher = build_teacher(settings, seed=1, frames=3, frame_size=64)
        assert teacher.clip.blocks[0].mlp.activation.__class__.__name__ == ("QuickGELU" if quick else "GELU")
        pixels = teacher.clip.normalise(frames).flatten(0, 1)
        results.append(teacher.head(teacher.clip.tokens(frames)[:, :, 0]).flatten(0, 1))
        torch.testing.assert_close(results[-1], model.encode_image(pixels), **TOLERANCE)
        torch.testing.assert_close(results[-1], twin.get_image_features(pixels).pooler_output, **TOLERANCE)
        ids = open_clip.get_tokenizer("ViT-B-32")(PROMPTS)
        torch.testing.assert_close(teacher.prompts, model.encode_text(ids), **TOLERANCE)
        torch.testing.assert_close(teacher.prompts, twin.get_text_features(ids).pooler_output, **TOLERANCE)
    torch.testing.assert_close(results[0], results[1], **TOLERANCE)


def test_the_wrong_activation_would_show(weights: tuple[Any, Path, Path], tmp_path: Path) -> None:
    """The trap: the same file under a model JSON that says the other activation gives clearly other features."""
    _, path, file = weights
    other = json.loads(path.read_text())
    other["quick_gelu"] = not other["quick_gelu"]
    (tmp_path / "other.json").write_text(json.dumps(other))
    frames = torch.randint(0, 256, (1, 3, 3, 64, 64), dtype=torch.uint8)
    a, b = (
        build_teacher(config.Teacher(clip=str(p), weights=str(file)), seed=1, frames=3, frame_size=64)
        for p in (path, tmp_path / "other.json")
    )
    assert (a.clip.tokens(frames) - b.clip.tokens(frames)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "tag", "quick"),
    [
        ("ViT-L-14", "openai", True),
        ("ViT-L-14-quickgelu", "openai", True),
        ("ViT-L-14", "laion2b_s32b_b82k", False),
        ("ViT-L-14-quickgelu", "metaclip_400m", True),
    ],
)
def test_a_tag_decides_the_activation(name: str, tag: str, quick: bool) -> None:
    assert clip_weights.quick_gelu(name, tag, default=not quick) is quick
    assert clip_weights.quick_gelu(name, "some/file.pt", default=quick) is quick


def test_means_belong_to_the_weights() -> None:
    """openai's own; a tag with others keeps its own."""
    cfg = open_clip.get_pretrained_cfg("ViT-L-14-quickgelu", "openai")
    assert tuple(cfg.get("mean") or open_clip.OPENAI_DATASET_MEAN) == clip_weights.CLIP_MEAN
    assert tuple(cfg.get("std") or open_clip.OPENAI_DATASET_STD) == clip_weights.CLIP_STD


# How OpenAI's files were made, and what open_clip says when it reads one.
@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*TorchScript archive")
def test_torchscript_archive_of_openai_loads(tmp_path: Path) -> None:
    """OpenAI's .pt files are TorchScript archives in float16."""

    class Scripted(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            for name, child in model.named_children():
                self.add_module(name, child)
            for name, parameter in model.named_parameters(recurse=False):
                self.register_parameter(name, parameter)

        def forward(self, x: Tensor) -> Tensor:
            return x

    torch.manual_seed(0)
    model = open_clip.CLIP(**sizes(True)).eval()
    (tmp_path / "t.json").write_text(json.dumps(sizes(True)))
    torch.jit.trace(Scripted(model), torch.zeros(1)).save(str(tmp_path / "t.pt"))
    settings = config.Teacher(clip=str(tmp_path / "t.json"), weights=str(tmp_path / "t.pt"))
    teacher = build_teacher(settings, seed=1, frames=3, frame_size=64)
    torch.testing.assert_close(teacher.head.projection.weight, model.visual.proj.T)


def test_positions_follow_the_frame_size(weights: tuple[Any, Path, Path]) -> None:
    """A frame size other than CLIP's own: positions are interpolated as open_clip does."""
    _, path, file = weights
    teacher = build_teacher(config.Teacher(clip=str(path), weights=str(file)), seed=1, frames=3, frame_size=96)
    theirs = open_clip.create_model(path.stem, pretrained=str(file), force_image_size=96)
    torch.testing.assert_close(teacher.clip.embed.position, theirs.visual.positional_embedding)


def test_random_weights_depend_on_the_seed_alone() -> None:
    settings = config.Teacher(clip="configs/clip/tiny.json", weights="random")
    torch.manual_seed(5)
    first = build_teacher(settings, seed=1, frames=4, frame_size=64)
    before = torch.random.get_rng_state()
    second = build_teacher(settings, seed=1, frames=4, frame_size=64)
    assert torch.equal(before, torch.random.get_rng_state())
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    other = build_teacher(settings, seed=2, frames=4, frame_size=64)
    assert not torch.equal(first.fuse.hidden.weight, other.fuse.hidden.weight)
    # A part's weights do not depend on which other parts there are.
    faceless = build_teacher(
        config.Teacher(clip="configs/clip/tiny.json", weights="random", face=False), seed=1, frames=4, frame_size=64
    )
    assert torch.equal(first.cct.blocks[0].message.weight, faceless.cct.blocks[0].message.weight)
    assert torch.equal(first.prompting.attention.q.weight, faceless.prompting.attention.q.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": "ViT-XXL"}, r"teacher\.clip: expected an open_clip model name .* found ViT-XXL"),
        ({"clip": "nowhere.json"}, r"teacher\.clip: no file nowhere\.json"),
        ({"clip": "RN50"}, r"teacher\.clip: RN50 is not a plain CLIP vision transformer"),
        ({"clip": "ViT-B-16-SigLIP"}, r"teacher\.clip: ViT-B-16-SigLIP is not a plain"),
        ({"weights": "no/such/file.pt"}, r"teacher\.weights: no/such/file\.pt is no file and no tag .*weights=random"),
        (
            {"weights": "configs/clip/tiny.json"},
            r"teacher\.weights: expected weights of tiny in configs/clip/tiny\.json, found",
        ),
        ({"weights": "random", "trainable_blocks": 9}, r"teacher\.trainable_blocks: expected at most 2"),
    ],
)
def test_mistakes_are_named_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build_teacher(config.Teacher(**({"clip": "configs/clip/tiny.json"} | change)), seed=1)
    assert "\n" not in str(caught.value)


def test_a_compiled_tower_gives_the_same_features() -> None:
    frames = torch.randint(0, 256, (2, 4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = []
    for compiled in (False, True):
        settings = config.Teacher(clip="configs/clip/tiny.json", weights="random", compile=compiled)
        tower = build_teacher(settings, seed=1, frames=4, frame_size=64).clip
        assert (tower._compiled_call_impl is not None) == compiled
        with torch.inference_mode():
            found.append(tower.tokens(frames))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)
