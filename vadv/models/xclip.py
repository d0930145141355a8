"""Names of Hugging Face's CLIP and X-CLIP weights in terms of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vadv.models.clip import Geometry

_PLAIN = {
    "vision_model.embeddings.patch_embedding.weight": "embed.patch.weight",
    "vision_model.embeddings.class_embedding": "embed.class_token",
    "vision_model.embeddings.position_embedding.weight": "embed.position",
    "vision_model.pre_layrnorm.": "embed.norm.",  # CLIP's spelling there
    "vision_model.pre_layernorm.": "embed.norm.",
    "vision_model.post_layernorm.": "head.norm.",
    "visual_projection.weight": "head.projection.weight",
    "text_model.embeddings.token_embedding.weight": "text.token.weight",
    "text_model.embeddings.position_embedding.weight": "text.position",
    "text_model.final_layer_norm.": "text.norm.",
    "text_projection.weight": "text.projection.weight",
    "prompts_visual_layernorm.": "context.norm.",
    "prompts_visual_projection": "context.projection.weight",
    "mit.position_embedding": "mit.position",
    "prompts_generator.layernorm.": "prompting.norm.",
    "prompts_generator.alpha": "prompting.alpha",
}
_STACKS = {
    "vision_model.encoder.layers": "blocks",
    "text_model.encoder.layers": "text.blocks",
    "mit.encoder.layers": "mit.blocks",
}
_BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.out_proj": "attention.out",
    "self_attn.qkv": "attention.qkv",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
    "message_fc": "message",
    "message_ln": "message_norm",
    "message_attn.out_proj": "message_attention.out",
    "message_attn.qkv": "message_attention.qkv",
}
_PROMPT_LAYER = {
    "norm1": "norm1",
    "norm3": "norm2",
    "cross_attn.q_proj": "attention.q",
    "cross_attn.k_proj": "attention.k",
    "cross_attn.v_proj": "attention.v",
    "cross_attn.proj": "attention.out",
    "mlp.0": "mlp.up",
    "mlp.3": "mlp.down",
}
_NOT_OURS = re.compile(r"logit_scale|.*position_ids")
"""Read apart (the scale), or derived."""


def geometry_of(settings: Any) -> Geometry:
    """Sizes from a Hugging Face CLIPConfig or XCLIPConfig."""
    vision, text = settings.vision_config, settings.text_config
    if vision.hidden_act not in ("quick_gelu", "gelu"):
        raise ValueError(f"teacher.clip: expected hidden_act quick_gelu or gelu, found {vision.hidden_act}")
    return Geometry(
        embed=settings.projection_dim,
        image=vision.image_size,
        patch=vision.patch_size,
        width=vision.hidden_size,
        layers=vision.num_hidden_layers,
        heads=vision.num_attention_heads,
        hidden=vision.intermediate_size,
        context=text.max_position_embeddings,
        vocabulary=text.vocab_size,
        text_width=text.hidden_size,
        text_layers=text.num_hidden_layers,
        text_heads=text.num_attention_heads,
        text_hidden=text.intermediate_size,
        quick_gelu=vision.hidden_act == "quick_gelu",
    )


def from_hugging_face(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Rename and re-lay the weights of CLIPModel or XCLIPModel.

    Returns:
        CLIP's weights by the names of `clip_weights.Clip`; those of X-CLIP's own modules by the names of `Teacher`
        (cct.blocks.…, mit.…, context.…, prompting.…); the keys that were not understood.
    """
    clip: dict[str, Tensor] = {}
    extra: dict[str, Tensor] = {}
    unmatched: list[str] = []
    for key, value in _fuse(state).items():
        ours = _rename(key)
        if ours is None:
            if not _NOT_OURS.fullmatch(key):
                unmatched.append(key)
        elif re.match(r"blocks\.\d+\.message", ours):
            extra[f"cct.{ours}"] = value
        elif ours.startswith(("mit.", "context.", "prompting.")):
            # The projection of patches alone is a bare matrix there, multiplied from the right.
            extra[ours] = value.T if key == "prompts_visual_projection" else value
        else:
            clip[ours] = value
    return clip, extra, unmatched


def _fuse(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the projections of queries, keys and values of self-attention into one; a part alone is of no use."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.fullmatch(r"(.+\.(?:self|message)_attn)\.([qkv])_proj\.(weight|bias)", key)
        if not match:
            out[key] = value
        elif match[2] == "q":
            keys = [f"{match[1]}.{letter}_proj.{match[3]}" for letter in "qkv"]
            if all(k in state for k in keys):
                out[f"{match[1]}.qkv.{match[3]}"] = torch.cat([state[k] for k in keys])
    return out


def _rename(key: str) -> str | None:
    for theirs, ours in _PLAIN.items():
        if key == theirs or (theirs.endswith(".") and key.startswith(theirs)):
            return ours + key[len(theirs) :]
    if match := re.fullmatch(r"prompts_generator\.decoder\.(\d+)\.(.+)\.(weight|bias)", key):
        name = _PROMPT_LAYER.get(match[2])
        return f"prompting.layers.{match[1]}.{name}.{match[3]}" if name else None
    if match := re.fullmatch(r"(.+)\.(\d+)\.(.+)\.(weight|bias)", key):
        stack, name = _STACKS.get(match[1]), _BLOCK.get(match[3])
        return f"{stack}.{match[2]}.{name}.{match[4]}" if stack and name else None
    return None
