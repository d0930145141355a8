"""The transformer block that CLIP, CCT, MIT and prompting share.

Shape legend: B sequences, L tokens of width W, S tokens attended to, H heads of width W / H.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_WIDTH = 64
"""Width of one attention head in CLIP and X-CLIP."""


def heads_for(width: int) -> int:
    """Attention heads of a new module of this width: as CLIP, one per 64 channels, and one for narrower modules."""
    return max(1, width // HEAD_WIDTH)


class QuickGELU(nn.Module):
    """x·σ(1.702 x), the activation of OpenAI's CLIP and of X-CLIP, by way of SiLU: fewer passes, and one tensor kept."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(1.702 * x) / 1.702


class FeedForward(nn.Module):
    """Two linear layers, W → 4 W → W."""

    def __init__(self, width: int, hidden: int, *, quick_gelu: bool = True) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.activation = QuickGELU() if quick_gelu else nn.GELU()
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class SelfAttention(nn.Module):
    """Multi-head attention among the tokens of one sequence.

    The projection of queries, keys and values is a module of its own, and not a parameter as in
    `nn.MultiheadAttention`, because ZeRO-3 gathers a module's parameters when that module is called.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Attend.

        Args:
            x: (B, L, W).
            mask: (B, L) bool, True for tokens that may be attended to; each row needs one.
            causal: each token sees itself and those before it.

        Returns:
            (B, L, W).
        """
        q, k, v = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        key_mask = None if mask is None else mask[:, None, None, :]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask, is_causal=causal)
        return self.out(rearrange(attended, "b h l d -> b l (h d)"))


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence's tokens to another's."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=bias)
        self.k = nn.Linear(width, width, bias=bias)
        self.v = nn.Linear(width, width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """Attend from (B, L, W) to (B, S, W), giving (B, L, W)."""
        q, k, v = (
            rearrange(x, "b l (h d) -> b h l d", h=self.heads)
            for x in (self.q(query), self.k(context), self.v(context))
        )
        return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h l d -> b l (h d)"))


class Block(nn.Module):
    """A pre-norm transformer layer: x += attention(norm(x)); x += feed-forward(norm(x))."""

    def __init__(self, width: int, heads: int, hidden: int | None = None, *, quick_gelu: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, hidden or 4 * width, quick_gelu=quick_gelu)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, L, W) → (B, L, W); `mask` and `causal` as in `SelfAttention`."""
        x = x + self.attention(self.norm1(x), mask=mask, causal=causal)
        return x + self.mlp(self.norm2(x))


def init_linear(module: nn.Module) -> None:
    """X-CLIP's initialisation of its new modules: truncated normal of std .02, biases 0, norms 1."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
