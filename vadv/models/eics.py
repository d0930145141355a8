"""The EICS-style audio and visual students of the retrieval task (Fig. 4).

EICS (Zeng et al. 2023) has no public code. What is built here follows its description: two common spaces, trained end
to end; *explicit*, where the audio and the visual vector of a clip are pulled together; *implicit*, where each modality
by itself is pulled to its class and so away from the others. Hence "EICS-style", not EICS.

Shape legend: B clips, D width of a modality's features, H hidden units, C classes.

    x (B, D) ─ standardised ─┬─ 3-layer MLP ─ explicit (B, C) ─┐
                             └─ 3-layer MLP ─ implicit (B, C) ─┴─ sum = logit (B, C)

The logit is what is classified, distilled into, and compared for retrieval. The MLPs have three layers with 128 hidden
units, and both spaces are C wide, as Table 3 has them (10). Adding the spaces up, rather than joining them by one more
MLP, kept the directions of logits meaningful: see docs/vegas.md for the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vadv.models.mlp import FullPrecisionLinear
from vadv.models.outputs import Output, Widths


@dataclass(frozen=True, kw_only=True)
class SpaceOutput(Output):
    """A modality's logit and its vector in either space."""

    explicit: Tensor
    """(B, C)."""
    implicit: Tensor
    """(B, C)."""


class SpaceMLP(nn.Module):
    """Linear → ReLU → Linear → ReLU → Linear, in float32."""

    def __init__(self, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = FullPrecisionLinear(width, hidden)
        self.second = FullPrecisionLinear(hidden, hidden)
        self.out = FullPrecisionLinear(hidden, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, width) → outputs (B, outputs), second and first hidden layer (B, hidden)."""
        first = torch.relu(self.first(x))
        second = torch.relu(self.second(first))
        return self.out(second), second, first


class TwoSpaces(nn.Module):
    """Both spaces of one modality, and their sum."""

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.explicit = SpaceMLP(width, hidden, classes)
        self.implicit = SpaceMLP(width, hidden, classes)
        self.widths = Widths(representation=2 * hidden, hidden=2 * hidden, logit=classes)

    def forward(self, x: Tensor) -> SpaceOutput:
        """(B, D) standardised features → logit and spaces; hidden layers of the two spaces are joined."""
        explicit, explicit_second, explicit_first = self.explicit(x)
        implicit, implicit_second, implicit_first = self.implicit(x)
        return SpaceOutput(
            logit=explicit + implicit,
            hidden=torch.cat([explicit_second, implicit_second], dim=1),
            representation=torch.cat([explicit_first, implicit_first], dim=1),
            explicit=explicit,
            implicit=implicit,
        )


class ModalityStudent(nn.Module):
    """The encoder of one modality: standardised features into the two spaces."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        # Buffers, of the training clips' features: audio in decibels and visual features in units of their own.
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.head = TwoSpaces(width, hidden, classes)

    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation of (n, D) training features; a constant feature is left out."""
        with torch.no_grad():
            deviation = features.double().std(dim=0, correction=0)
            self.mean.copy_(features.double().mean(dim=0))
            self.std.copy_(torch.where(deviation > 1e-6, deviation, torch.inf))

    @property
    def width(self) -> int:
        """D, width of the features."""
        return len(self.mean)

    def forward(self, features: Tensor) -> SpaceOutput:
        """(B, D) features as they are stored → logit and spaces."""
        if features.ndim != 2 or features.shape[1] != self.width:
            raise ValueError(f"features: expected (B, {self.width}), found {tuple(features.shape)}")
        output: SpaceOutput = self.head((features.float() - self.mean.float()) / self.std.float())
        return output


class RetrievalVector(nn.Module):
    """A student as it is used afterwards: features to the vectors that are compared. This is what ONNX files hold."""

    def __init__(self, student: ModalityStudent, vector: str) -> None:
        super().__init__()
        self.student, self.vector = student, vector

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → (B, C)."""
        return retrieval_vector(self.student(features).logit, self.vector)


def retrieval_vector(logit: Tensor, vector: str) -> Tensor:
    """(B, C) logits → what is compared by cosine similarity: `logits` themselves or `probabilities`."""
    return logit.softmax(dim=1) if vector == "probabilities" else logit


def build_students(widths: dict[str, int], *, hidden: int, classes: int, seed: int) -> dict[str, Any]:
    """The students of the modalities.

    Args:
        widths: width of the features by modality: audio, visual.
        hidden: units of each hidden layer.
        classes: C.
        seed: decides the weights, the same on every rank.

    Returns:
        Modality → student, with identity standardisation.
    """
    from vadv.models.seeding import seeded

    students: dict[str, Any] = {}
    for name, width in widths.items():
        with seeded(seed, f"student.{name}"):
            students[name] = ModalityStudent(width, hidden, classes)
    return students
