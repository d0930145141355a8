"""Where CLIP's weights come from: an open_clip name and tag, a file, a Hugging Face CLIP or X-CLIP folder, a seed."""

from __future__ import annotations

import json
import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vadv import config
from vadv.models.clip import FrameHead, Geometry, PatchEmbedding, TextTower
from vadv.models.seeding import seeded
from vadv.models.transformer import Block

log = logging.getLogger(__name__)

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's, which CLIP's weights want; open_clip's OPENAI_DATASET_MEAN and _STD."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What X-CLIP was trained with."""


class Clip(nn.Module):
    """All layers of a CLIP; the teacher takes from it what it needs."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        g = geometry
        self.embed = PatchEmbedding(g)
        self.blocks = nn.ModuleList(Block(g.width, g.heads, g.hidden, quick_gelu=g.quick_gelu) for _ in range(g.layers))
        self.head = FrameHead(g.width, g.embed)
        self.text = TextTower(g)

    @classmethod
    def names(cls, geometry: Geometry) -> list[str]:
        """Names of the weights."""
        with torch.device("meta"):
            return list(cls(geometry).state_dict())


@dataclass(kw_only=True)
class Source:
    """A CLIP and what belongs to its weights."""

    clip: Clip
    geometry: Geometry
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    scale: float = 1 / 0.07
    """exp of CLIP's logit scale."""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """Weights of X-CLIP's own modules by our names: cct.…, mit.…, context.…, prompting.…."""
    unmatched: list[str] = field(default_factory=list)
    """Keys of the weights that nothing here answers to."""


def load(teacher: config.Teacher, frame_size: int, seed: int) -> Source:
    """Build CLIP as `teacher.clip` and `teacher.weights` say, for frames of `frame_size` pixels.

    Raises:
        ValueError: the model or its weights cannot be found, or are of a kind that is not a plain vision transformer.
    """
    folder = Path(teacher.clip)
    if (folder / "config.json").is_file():
        return _hugging_face(folder, frame_size, None if teacher.weights == "random" else "folder", seed)
    cfg, name = _open_clip_config(teacher.clip)
    geometry = _open_clip_geometry(cfg, name)
    if teacher.weights == "random":
        geometry = replace(geometry, image=frame_size)
        with seeded(seed, "clip"):
            return Source(clip=Clip(geometry), geometry=geometry)
    return _open_clip(name, cfg, geometry, teacher.weights, frame_size)


def _open_clip_config(name: str) -> tuple[dict[str, Any], str]:
    """The model's JSON, and the name by which open_clip knows it."""
    import open_clip

    path = Path(name)
    if path.suffix == ".json":
        if not path.is_file():
            raise ValueError(f"teacher.clip: no file {name}; expected the path of an open_clip model JSON")
        open_clip.add_model_config(path)
        cfg: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cfg, path.stem
    found = open_clip.get_model_config(name)
    if found is None:
        raise ValueError(
            f"teacher.clip: expected an open_clip model name (as ViT-L-14-quickgelu), the path of a model JSON, or a "
            f"Hugging Face CLIP or X-CLIP folder with config.json, found {name}"
        )
    return found, name


def _open_clip_geometry(cfg: Mapping[str, Any], name: str) -> Geometry:
    vision, text = cfg["vision_cfg"], cfg["text_cfg"]
    known_vision = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
    known_text = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
    strange = sorted((set(vision) - known_vision) | (set(text) - known_text) | ({"custom_text"} & set(cfg)))
    if strange or not isinstance(vision.get("layers"), int) or not isinstance(vision.get("image_size", 224), int):
        raise ValueError(
            f"teacher.clip: {name} is not a plain CLIP vision transformer "
            f"({', '.join(strange) or 'convolutional tower'}); expected one as ViT-L-14-quickgelu or ViT-B-32"
        )
    width, text_width = vision["width"], text.get("width", 512)
    return Geometry(
        embed=cfg["embed_dim"],
        image=vision.get("image_size", 224),
        patch=vision["patch_size"],
        width=width,
        layers=vision["layers"],
        heads=width // vision.get("head_width", 64),
        hidden=int(width * vision.get("mlp_ratio", 4.0)),
        context=text.get("context_length", 77),
        vocabulary=text.get("vocab_size", 49408),
        text_width=text_width,
        text_layers=text.get("layers", 12),
        text_heads=text.get("heads", 8),
        text_hidden=int(text_width * text.get("mlp_ratio", 4.0)),
        quick_gelu=bool(cfg.get("quick_gelu", False)),
    )


def _open_clip(name: str, cfg: Mapping[str, Any], geometry: Geometry, weights: str, frame_size: int) -> Source:
    import open_clip

    tag = open_clip.get_pretrained_cfg(name, weights)
    options = "give the path of a weights file, an open_clip tag, or teacher.weights=random"
    if not tag and not Path(weights).is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise ValueError(f"teacher.weights: {weights} is no file and no tag of {name} (tags: {tags}); {options}")
    quick = quick_gelu(name, weights, geometry.quick_gelu)
    try:
        model = open_clip.create_model(
            name,
            pretrained=weights,
            force_quick_gelu=quick,
            force_image_size=frame_size,
            weights_only=not _is_torchscript(weights),
        )
    except Exception as error:  # open_clip, the hub's client and torch raise a dozen kinds.
        # torch advises to load such a file without its protection: not repeated here.
        unsafe = isinstance(error, pickle.UnpicklingError)
        cause = "no tensors, or more than tensors" if unsafe else str(error).split("\n")[0][:200]
        raise ValueError(
            f"teacher.weights: expected weights of {name} in {weights}, found what cannot be loaded ({cause}); {options}"
        ) from error
    geometry = replace(geometry, image=frame_size, quick_gelu=quick)
    preprocess = open_clip.get_model_preprocess_cfg(model)
    clip = _assign(geometry, from_open_clip(model.state_dict()))
    return Source(
        clip=clip,
        geometry=geometry,
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        scale=float(model.logit_scale.detach().exp()),
    )


def quick_gelu(name: str, weights: str, default: bool) -> bool:
    """Whether the weights want QuickGELU: a tag knows, for a file the model's own setting (`default`) has to do.

    The activation belongs to the weights: `ViT-L-14` with `openai` is wrong without it, and open_clip only warns.
    """
    import open_clip

    tag = open_clip.get_pretrained_cfg(name, weights)
    return bool(tag.get("quick_gelu", False)) if tag else default


def _is_torchscript(path: str) -> bool:
    """OpenAI's own .pt files are TorchScript archives: `weights_only` does not apply to these, they hold no pickled
    objects of arbitrary classes."""
    if not Path(path).is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(n.endswith("constants.pkl") for n in archive.namelist())


def _assign(geometry: Geometry, state: dict[str, Tensor]) -> Clip:
    with torch.device("meta"):
        clip = Clip(geometry)
    clip.load_state_dict({k: v.detach().float() for k, v in state.items()}, strict=True, assign=True)
    return clip.requires_grad_(True)


_OPEN_CLIP_BLOCK = {
    "ln_1": "norm1",
    "attn.in_proj_": "attention.qkv.",
    "attn.out_proj": "attention.out",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}
_OPEN_CLIP = {
    "visual.conv1.weight": "embed.patch.weight",
    "visual.class_embedding": "embed.class_token",
    "visual.positional_embedding": "embed.position",
    "visual.ln_pre.": "embed.norm.",
    "visual.ln_post.": "head.norm.",
    "visual.proj": "head.projection.weight",
    "token_embedding.weight": "text.token.weight",
    "positional_embedding": "text.position",
    "ln_final.": "text.norm.",
    "text_projection": "text.projection.weight",
}


def from_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's names and layouts to those of `Clip`. Logit scale and masks are left out."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if match := re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)", key):
            rest = match[3]
            for theirs, ours in _OPEN_CLIP_BLOCK.items():
                if rest.startswith(theirs):
                    side = "" if match[1] else "text."
                    out[f"{side}blocks.{match[2]}.{ours}{rest[len(theirs) :]}"] = value
            continue
        for theirs, ours in _OPEN_CLIP.items():
            if key == theirs or (theirs.endswith(".") and key.startswith(theirs)):
                # Stored there as matrices to multiply from the right.
                out[ours + key[len(theirs) :]] = value.T if key in ("visual.proj", "text_projection") else value
    return out


def _hugging_face(folder: Path, frame_size: int, weights: str | None, seed: int) -> Source:
    from transformers import AutoConfig, CLIPModel, XCLIPModel

    from vadv.models.xclip import from_hugging_face, geometry_of

    settings = AutoConfig.from_pretrained(folder)
    if settings.model_type not in ("clip", "xclip"):
        raise ValueError(f"teacher.clip: expected a clip or xclip model in {folder}, found {settings.model_type}")
    geometry = geometry_of(settings)
    if weights is None:
        geometry = replace(geometry, image=frame_size)
        with seeded(seed, "clip"):
            return Source(clip=Clip(geometry), geometry=geometry)
    if geometry.image != frame_size:
        raise ValueError(
            f"data.frame_size: expected {geometry.image}, the size that {folder} was trained with, found {frame_size}"
        )
    kind = XCLIPModel if settings.model_type == "xclip" else CLIPModel
    try:
        model, report = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except OSError as error:
        cause = " ".join(str(error).split())[:160]
        raise ValueError(
            f"teacher.clip: no weights in {folder} ({cause}); expected model.safetensors, or set teacher.weights=random"
        ) from error
    # What the folder lacks got random numbers of transformers' own there; it must not pass for the folder's.
    lacking = set(report["missing_keys"])
    state, extra, unmatched = from_hugging_face({k: v for k, v in model.state_dict().items() if k not in lacking})
    unmatched += [f"{key}: nothing here has such weights" for key in sorted(report["unexpected_keys"])]
    unmatched += [f"{key}: not in the folder, random weights take its place" for key in sorted(lacking)]
    if gaps := sorted(set(Clip.names(geometry)) - set(state)):
        raise ValueError(f"teacher.clip: the weights in {folder} lack {len(gaps)} of CLIP's own, first {gaps[0]}")
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if settings.model_type == "xclip" else (CLIP_MEAN, CLIP_STD)
    if (preprocessor := folder / "preprocessor_config.json").is_file():
        found = json.loads(preprocessor.read_text(encoding="utf-8"))
        mean, std = tuple(found.get("image_mean", mean)), tuple(found.get("image_std", std))
    return Source(
        clip=_assign(geometry, state),
        geometry=geometry,
        mean=mean,
        std=std,
        scale=float(model.logit_scale.detach().exp()),
        extra=extra,
        unmatched=unmatched,
    )
