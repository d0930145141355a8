"""The text student, section 4.2 and eq. 9: a Hugging Face encoder and a two-layer MLP on its first token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vadv import config
from vadv.models import student_weights
from vadv.models.batch import Batch
from vadv.models.dropout import NoiseKeys, replace_dropout
from vadv.models.mlp import LogitMLP
from vadv.models.outputs import Output
from vadv.models.seeding import seeded


class Student(nn.Module):
    """Text to the text logit.

    Dropout acts on hidden states (`KeyedDropout`), not on attention probabilities: the fused attention kernels take no
    mask for these that we could key by sample.
    """

    def __init__(self, encoder: nn.Module, *, hidden: int, dropout: float, frozen: bool) -> None:
        """Build around an encoder.

        Args:
            encoder: a transformers model of a kind in vadv/models/students/, without pooling layer.
            hidden: units of the MLP; at most the encoder's width, or the MLP does not fit the stock classifier.
            dropout: probability, on hidden states.
            frozen: train the MLP only. The encoder then runs without dropout.
        """
        super().__init__()
        width: int = encoder.config.hidden_size
        if hidden > width:
            raise ValueError(
                f"student.hidden: expected at most {width}, the encoder's width (the MLP is exported into the stock "
                f"classification head), found {hidden}"
            )
        self.encoder = encoder
        self.frozen = frozen
        self.noise = NoiseKeys()
        self.kind = student_weights.kind_of(encoder.config)
        self._attention_dropout = encoder.config.attention_probs_dropout_prob
        replace_dropout(encoder, 0.0 if frozen else dropout, self.noise)
        _switch_off_attention_dropout(encoder)
        encoder.requires_grad_(not frozen)
        self.head = LogitMLP(width, hidden, 1, self.kind.activation)

    def pretrained_parameters(self) -> Iterator[nn.Parameter]:
        """The encoder's parameters; those of the MLP start from the seed."""
        return self.encoder.parameters()

    def forward(self, batch: Batch) -> Output:
        """Read the batch's texts; one output row per text."""
        text = batch.text
        assert text is not None
        self.noise.keys, self.noise.places = batch.noise[text.clip.clamp(min=0)], text.place
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            # All arguments in their final form: what transformers works out from less, such as positions from token ids
            # or whether a mask masks anything, is wrong here or makes the host wait for the device.
            tokens = self.encoder(
                input_ids=text.ids,
                attention_mask=text.mask,
                position_ids=text.place + self.kind.first_position(self.encoder.config),
                token_type_ids=torch.zeros_like(text.ids),
            ).last_hidden_state
            state = tokens.flatten(0, 1)[text.first]
        logit, hidden = self.head(state)
        return Output(logit=logit, representation=state.float(), hidden=hidden)

    def to_stock(self, state: Mapping[str, Tensor] | None = None) -> Any:
        """The same function as a `…ForSequenceClassification` of transformers with one regression output.

        RoBERTa's classification head, and BERT's pooler with classifier, are Linear(W, W) → tanh → Linear(W, 1); other
        kinds have another activation, and then the MLP has it too. The MLP fills their first rows; the other units are
        zero, so logits are the same up to rounding.

        Args:
            state: this module's whole weights, when the module itself holds only a shard of them (ZeRO-3).

        Returns:
            A float32 `PreTrainedModel` on the CPU; the caller saves it.
        """
        own = {k: v.detach().to("cpu", torch.float32) for k, v in (state or self.state_dict()).items()}
        stock = student_weights.empty_stock(self.encoder.config, self._attention_dropout)
        prefix = stock.base_model_prefix
        weights = {
            f"{prefix}.{k.removeprefix('encoder.')}": v for k, v in own.items() if k.startswith("encoder.")
        } | student_weights.stock_head(
            self.kind,
            self.encoder.config.hidden_size,
            own["head.hidden.weight"],
            own["head.hidden.bias"],
            own["head.out.weight"],
            own["head.out.bias"],
        )
        missing, unexpected = stock.load_state_dict(weights, strict=False, assign=True)
        assert not missing and not unexpected, (missing, unexpected)
        for name, buffer in self.encoder.named_buffers():  # positions and the like, in no state dict
            owner, _, leaf = f"{prefix}.{name}".rpartition(".")
            setattr(stock.get_submodule(owner), leaf, buffer.detach().cpu().clone())
        return stock.eval()


def _switch_off_attention_dropout(encoder: nn.Module) -> None:
    for module in encoder.modules():
        # Self-attention modules of transformers read the probability from a dropout module that they never call.
        if type(module).__name__.endswith("SelfAttention"):
            module.dropout.p = 0.0


def build_student(settings: config.Student, seed: int) -> tuple[Student, Any]:
    """Build the student and its tokenizer.

    Args:
        settings: `student` of the configuration.
        seed: decides the MLP's weights (and the encoder's for `weights: random`), the same on every rank.

    Returns:
        The student; the checkpoint's own tokenizer, padding on the right.

    Raises:
        ValueError: the model is not there, is of a kind whose stock classifier could not hold the MLP, or takes fewer
            tokens than `max_tokens`.
    """
    encoder, tokenizer = student_weights.load(settings, seed)
    limit = student_weights.longest(encoder.config)
    if not 3 <= settings.max_tokens <= limit:
        raise ValueError(
            f"student.max_tokens: expected 3 to {limit}, the positions of {settings.model}, found {settings.max_tokens}"
        )
    with seeded(seed, "student.head"):
        student = Student(encoder, hidden=settings.hidden, dropout=settings.dropout, frozen=settings.frozen)
    return student, tokenizer
