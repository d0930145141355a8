"""MIT, the multi-frame integration transformer, and its average over frames: eqs. 4 and 5 (X-CLIP, Ni et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vadv.models.transformer import Block, heads_for


class MultiFrameTransformer(nn.Module):
    """Transformer layers over the frames of a clip, then the mean: mean_t(blocks(x + position) + x)."""

    def __init__(
        self, width: int, frames: int, layers: int = 1, heads: int | None = None, hidden: int | None = None
    ) -> None:
        """Build.

        Args:
            width: D, channels per frame.
            frames: T, number of frames; each has its position embedding.
            layers: transformer layers.
            heads: attention heads; default: one per 64 channels.
            hidden: units of the feed-forward layer; default 4 D.
        """
        super().__init__()
        self.position = nn.Parameter(torch.empty(1, frames, width))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.blocks = nn.ModuleList(Block(width, heads or heads_for(width), hidden) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Integrate.

        Args:
            x: (B, T, D).
            mask: (B, T) bool, True for frames that count. The others are neither attended to nor averaged.

        Returns:
            (B, D); zeros for a clip of which no frame counts.
        """
        y = x + self.position
        if mask is None:
            for block in self.blocks:
                y = block(y)
            return (y + x).mean(dim=1)
        some = mask.any(dim=1, keepdim=True)
        # Attention to nothing is undefined: where no frame counts all are attended to, and the result is set to zero.
        attended = mask | ~some
        for block in self.blocks:
            y = block(y, mask=attended)
        kept = torch.where(mask[..., None], y + x, 0.0)
        return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1).to(kept.dtype)
