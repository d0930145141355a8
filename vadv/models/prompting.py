"""Video-specific prompting, eq. 7: prompts that attend to what the video shows (X-CLIP, Ni et al. 2022).

Shape legend: B clips, T frames, N patches of width W, C prompts of width D.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vadv.models.transformer import CrossAttention, FeedForward, heads_for


class PatchContext(nn.Module):
    """What the prompts look at: the patch tokens after CCT, brought to the prompts' space and averaged over frames."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, outputs, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, N + 1, W) → (B, N, D)."""
        # The mean first: the same as X-CLIP's mean of projections, in 1/T of the operations.
        return self.projection(self.norm(tokens[:, :, 1:]).mean(dim=1))


class PromptLayer(nn.Module):
    """X-CLIP's layer: text += cross-attention(norm(text), video); text += feed-forward(norm(text))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, 4 * width)

    def forward(self, text: Tensor, context: Tensor) -> Tensor:
        """(B, C, D), (B, N, D) → (B, C, D)."""
        text = text + self.attention(self.norm1(text), context)
        return text + self.mlp(self.norm2(text))


class VideoSpecificPrompting(nn.Module):
    """Enhance prompts by the video.

    `paper`: v̄ = v + MultiHeadAttention(query v; keys and values CCT(·)), one layer with nothing around it (eq. 7).
    `xclip`: v̄ = v + α · layers(v, norm(CCT(·))), two layers, α a learnt vector that starts at 0.1.
    """

    def __init__(
        self, width: int, mode: Literal["paper", "xclip"] = "paper", layers: int = 2, heads: int | None = None
    ) -> None:
        super().__init__()
        heads = heads or heads_for(width)
        self.mode = mode
        if mode == "paper":
            self.attention = CrossAttention(width, heads, bias=True)
        else:
            self.norm = nn.LayerNorm(width)
            self.layers = nn.ModuleList(PromptLayer(width, heads) for _ in range(layers))
            self.alpha = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, prompts: Tensor, context: Tensor) -> Tensor:
        """Enhance.

        Args:
            prompts: (C, D), the same for every clip.
            context: (B, N, D), see `PatchContext`.

        Returns:
            (B, C, D).
        """
        prompts = prompts.expand(len(context), *prompts.shape)
        if self.mode == "paper":
            return prompts + self.attention(prompts, context)
        text, context = prompts, self.norm(context)
        for layer in self.layers:
            text = layer(text, context)
        return prompts + self.alpha * text
