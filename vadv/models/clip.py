"""CLIP's two towers, eqs. 2 and 3, in modules that a sharding engine can gather one by one.

The weights come from open_clip, Hugging Face or a seed (`clip_weights.py`). The modules are our own, because open_clip
keeps projections and position embeddings as bare parameters that are used outside the module they belong to.

Shape legend: B clips, T frames of H x W pixels, N patches of width W, C prompts of L tokens, D the shared width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vadv.models.cross_frame import checkpointed
from vadv.models.transformer import Block


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The sizes of a CLIP."""

    embed: int
    """D, width of the space that images and texts share."""
    image: int
    """Height and width of a frame in pixels."""
    patch: int
    """Height and width of a patch in pixels."""
    width: int
    layers: int
    heads: int
    hidden: int
    """Visual tower: channels, blocks, attention heads, feed-forward units."""
    context: int
    vocabulary: int
    """Text tower: longest text in tokens, number of different tokens."""
    text_width: int
    text_layers: int
    text_heads: int
    text_hidden: int
    """Text tower: as of the visual one."""
    quick_gelu: bool
    """x·σ(1.702 x) in place of GELU. It belongs to the weights: with the other one features are quietly wrong."""

    @property
    def patches(self) -> int:
        """N, patches of a frame."""
        return (self.image // self.patch) ** 2


class PatchEmbedding(nn.Module):
    """Frames to tokens: f_m of eq. 2 (a linear map of each patch), the class token, positions and a norm."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        w = geometry.width
        self.patch = nn.Conv2d(3, w, geometry.patch, stride=geometry.patch, bias=False)
        self.class_token = nn.Parameter(torch.randn(w) * w**-0.5)
        self.position = nn.Parameter(torch.randn(geometry.patches + 1, w) * w**-0.5)
        self.norm = nn.LayerNorm(w)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float → (B, N + 1, W)."""
        x = rearrange(self.patch(pixels.to(self.patch.weight.dtype)), "b w y x -> b (y x) w")
        x = torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        return self.norm(x + self.position.to(x.dtype))


class FrameHead(nn.Module):
    """A frame's class token to the shared space: norm and linear projection."""

    def __init__(self, width: int, embed: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, embed, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) → (…, D)."""
        return self.projection(self.norm(x))


class TextTower(nn.Module):
    """CLIP's text encoder P(·) of eq. 3: a causal transformer, read at the end-of-text token."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        w, layers = geometry.text_width, geometry.text_layers
        self.token = nn.Embedding(geometry.vocabulary, w)
        self.position = nn.Parameter(torch.empty(geometry.context, w))
        self.blocks = nn.ModuleList(
            Block(w, geometry.text_heads, geometry.text_hidden, quick_gelu=geometry.quick_gelu) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(w)
        self.projection = nn.Linear(w, geometry.embed, bias=False)
        # open_clip's initialisation.
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.position, std=0.01)
        nn.init.normal_(self.projection.weight, std=w**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """(C, L) token ids, the end-of-text token being the highest → (C, D)."""
        end = ids.argmax(dim=1)
        x = self.token(ids) + self.position[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, causal=True)
        return self.projection(self.norm(x)[torch.arange(len(ids), device=ids.device), end])


class FrozenFrames(nn.Module):
    """The frozen part of CLIP's visual encoder V(·), eq. 2: from pixels to tokens, without gradients.

    What comes out depends on nothing that is trained, so it may be computed once and kept (`teacher.cache_features`).
    """

    mean_bits: Tensor
    std_bits: Tensor

    def __init__(
        self,
        embed: PatchEmbedding,
        blocks: nn.ModuleList,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        """Build of CLIP's first layers.

        Args:
            embed: CLIP's patch embedding.
            blocks: CLIP's frozen blocks: all of them, the first ones, or none.
            mean: per RGB channel, on the scale of 0 to 1; the numbers that the weights were trained with.
            std: likewise.
        """
        super().__init__()
        self.embed = embed
        self.blocks = blocks
        # Kept as integers, so that a model cast to bfloat16 still normalises pixels as its preprocessing did.
        self.register_buffer("mean_bits", torch.tensor(mean).view(torch.int32), persistent=False)
        self.register_buffer("std_bits", torch.tensor(std).view(torch.int32), persistent=False)
        self.requires_grad_(False)

    def normalise(self, frames: Tensor) -> Tensor:
        """(…, 3, H, W) uint8 → float32, as torchvision's ToTensor and Normalize."""
        mean, std = (b.view(torch.float32)[:, None, None] for b in (self.mean_bits, self.std_bits))
        return (frames.float() / 255 - mean) / std

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, 3, H, W) uint8 → (B, T, N + 1, W)."""
        with torch.no_grad():
            x = self.embed(self.normalise(frames.flatten(0, 1)))
            for block in self.blocks:
                x = block(x)
            return x.unflatten(0, frames.shape[:2])

    def tokens(self, frames: Tensor) -> Tensor:
        """The same, by the name under which the feature cache asks for it."""
        return self(frames)


class TrainableBlocks(nn.Module):
    """CLIP's last K visual blocks, trained. Their activations are computed again in the backward pass, not kept."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N + 1, W) → (B, T, N + 1, W)."""
        y = x.flatten(0, 1)
        for block in self.blocks:
            y = checkpointed(block, y) if self.training else block(y)
        return y.unflatten(0, x.shape[:2])


def unit(x: Tensor) -> Tensor:
    """Scale the last dimension to L2 norm 1, in float32."""
    return F.normalize(x.float(), dim=-1)
