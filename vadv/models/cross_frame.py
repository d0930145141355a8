"""CCT, the cross-frame communication transformer: CCT(·) in eqs. 5 and 7 (section 4.1; X-CLIP, Ni et al. 2022).

Shape legend: B clips, T frames, N patches and one class token of width W per frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vadv.models.transformer import Block, SelfAttention


class CrossFrameBlock(nn.Module):
    """A transformer layer over the tokens of each frame, with one more token that carries news of the other frames.

    Each frame's class token gives a message; messages attend to each other; the message is one more token of its
    frame during attention, and then dropped.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int | None = None,
        *,
        quick_gelu: bool = True,
        base: Block | None = None,
    ) -> None:
        """Build.

        Args:
            width: W.
            heads: of both attentions.
            hidden: units of the feed-forward layer; default 4 W.
            quick_gelu: activation of the feed-forward layer.
            base: a block of CLIP, whose layers then serve the frame's own tokens.
        """
        super().__init__()
        self.message = nn.Linear(width, width)
        self.message_norm = nn.LayerNorm(width)
        self.message_attention = SelfAttention(width, heads)
        new: list[nn.Module] = [self.message, self.message_norm, self.message_attention]
        block = base or Block(width, heads, hidden, quick_gelu=quick_gelu)
        self.norm1, self.attention, self.norm2, self.mlp = block.norm1, block.attention, block.norm2, block.mlp
        self._new = tuple(new if base else [*new, self.norm1, self.attention, self.norm2, self.mlp])

    def new_modules(self) -> tuple[nn.Module, ...]:
        """The layers that CLIP did not give."""
        return self._new

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N + 1, W) → (B, T, N + 1, W)."""
        b = x.shape[0]
        message = self.message(x[:, :, 0])
        message = message + self.message_attention(self.message_norm(message))
        x = rearrange(torch.cat([x, message[:, :, None]], dim=2), "b t n w -> (b t) n w")
        x = (x + self.attention(self.norm1(x)))[:, :-1]
        x = x + self.mlp(self.norm2(x))
        return rearrange(x, "(b t) n w -> b t n w", b=b)


class CrossFrameTransformer(nn.Module):
    """A stack of `CrossFrameBlock`s.

    With placement `after` its blocks are new and follow frozen CLIP's own; with `inside` they are CLIP's blocks with
    messages added, as in X-CLIP. There is no position embedding over time here: MIT has it.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        hidden: int | None = None,
        *,
        quick_gelu: bool = True,
        base: Sequence[Block | None] | None = None,
        checkpointing: bool = False,
    ) -> None:
        """Build `layers` blocks.

        Args:
            width: W.
            layers: number of blocks.
            heads: attention heads.
            hidden: units of the feed-forward layers; default 4 W.
            quick_gelu: activation of the feed-forward layers.
            base: for each block, the CLIP block that it extends.
            checkpointing: in training, keep only each block's input for the backward pass and compute the rest again.
        """
        super().__init__()
        self.blocks = nn.ModuleList(
            CrossFrameBlock(width, heads, hidden, quick_gelu=quick_gelu, base=block)
            for block in (base if base is not None else [None] * layers)
        )
        self.checkpointing = checkpointing

    def new_modules(self) -> list[nn.Module]:
        """The layers that CLIP did not give."""
        return [module for block in self.blocks for module in block.new_modules()]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N + 1, W) → (B, T, N + 1, W)."""
        for block in self.blocks:
            x = checkpointed(block, x) if self.checkpointing and self.training else block(x)
        return x


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)` without keeping its activations.

    The re-entrant form is the one that works when ZeRO-3 frees parameters between the passes; it gives gradients
    only when its input asks for one, which the output of frozen layers does not.
    """
    if torch.is_grad_enabled() and not x.requires_grad:
        x = x.detach().requires_grad_()
    return checkpoint(block, x, use_reentrant=True)
