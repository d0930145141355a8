"""What a forward and backward pass needs besides weights: found by doing it without numbers (`shapes.py`)."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vadv.config import Config
from vadv.training.shapes import shapes_of


@dataclass(frozen=True)
class Activations:
    """Bytes of one rank, over those of weights and of the micro-batch itself.

    Attributes:
        saved: what the forward pass leaves for the backward pass.
        training: the most that a training micro-batch needs when its gradients are not kept.
        with_gradients: the most it needs together with all gradients, in the model's format.
        evaluation: the most that an evaluation's micro-batch needs.
        largest: of the largest trained parameter's gradient.
    """

    saved: int
    training: int
    with_gradients: int
    evaluation: int
    largest: int


def activations(config: Config, clips: int, tokens: int, dtype: torch.dtype, evaluation_clips: int) -> Activations:
    """Activations of a configuration's model; takes seconds at the paper's sizes.

    Args:
        clips: micro-batch of training.
        tokens: length of its texts.
        dtype: number format of the model.
        evaluation_clips: micro-batch of evaluations.
    """
    with shapes_of(config, clips, tokens, dtype) as (model, batch), LiveBytes(model) as live:
        loss = model(batch)["loss"]
        saved = live.now
        loss.backward()
        del loss
    with shapes_of(config, evaluation_clips, tokens, dtype) as (model, batch), LiveBytes(model) as watching:
        with torch.no_grad():
            model.eval()(batch)
    return Activations(saved, live.most, live.most_with_gradients, watching.most, live.largest)


class LiveBytes(TorchDispatchMode):
    """Follows the memory of all tensors made inside, gradients of parameters apart.

    Attributes:
        now: bytes alive.
        most: the largest `now` so far.
        most_with_gradients: the largest sum of `now` and of the gradients so far.
        largest: bytes of the largest gradient.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.now = self.most = self.most_with_gradients = self.largest = self._gradients = 0
        self._sizes: dict[int, int] = {}
        for tensor in (*module.parameters(), *module.buffers()):
            self._sizes[tensor.untyped_storage()._cdata] = 0
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._accumulated)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._made(tensor.untyped_storage())
        return result

    def _made(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            self.most_with_gradients = max(self.most_with_gradients, self.now + self._gradients)
            weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def _accumulated(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        key = parameter.grad.untyped_storage()._cdata
        size = self._sizes.get(key, 0)
        self.now -= size
        self._sizes[key] = 0
        self._gradients += size
        self.largest = max(self.largest, size)
