"""The two-layer MLPs of the paper: f_v of eq. 6 and the logits of V, p and V^(t) (128 hidden units, Table 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vadv.models.outputs import Widths


class FullPrecisionLinear(nn.Linear):
    """A linear layer that computes in float32 whatever its weights' format.

    In bfloat16 a logit near 3 has steps of 1/64, more than what the losses should tell apart.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.weight.float(), self.bias.float())


class LogitMLP(nn.Module):
    """Linear → tanh (or another activation) → Linear, giving logits and the hidden layer, in float32."""

    def __init__(
        self, width: int, hidden: int, outputs: int, activation: Callable[[Tensor], Tensor] = torch.tanh
    ) -> None:
        super().__init__()
        self.activation = activation
        self.hidden = FullPrecisionLinear(width, hidden)
        self.out = FullPrecisionLinear(hidden, outputs)
        self.widths = Widths(representation=width, hidden=hidden, logit=outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width) → logits (B, outputs), hidden layer (B, hidden)."""
        hidden = self.activation(self.hidden(x))
        return self.out(hidden), hidden


class FusionMLP(nn.Module):
    """f_v of eq. 6: Linear → ReLU → Linear, from the joined representations to the model's width."""

    def __init__(self, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) → (B, outputs)."""
        return self.out(torch.relu(self.hidden(x)))
