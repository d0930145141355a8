"""Bytes that a rank needs for weights, gradients and optimizer states under each ZeRO stage (Rajbhandari et al. 2020).

Terms are those of DeepSpeed 0.19's own buffers, checked against measured peaks (`launch/bench.py memory`): what a stage
divides by the number of ranks N, and what it holds besides. P parameters of w bytes, Pt of them trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vadv.training.activations import Activations
from vadv.training.engine import precision, zero_stage

STATES = 8
"""Bytes per trained parameter of AdamW's two moments."""
MASTER = 4
"""Bytes per trained parameter of the float32 weights that the optimizer changes; the model's own in ZeRO-0."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Numbers of parameters.

    Attributes:
        total: of what DeepSpeed has.
        trained: of these, the trained ones.
        group: of these, those of the largest optimizer group.
        apart: of frozen CLIP, when its features are cached: every rank has it whole.
    """

    total: int
    trained: int
    group: int
    apart: int = 0


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one rank; the peak is the largest of three moments, not a sum of all columns.

    Attributes:
        weights: of the model, with what ZeRO-3 has gathered.
        optimizer: float32 weights and moments on the device.
        backward: gradients, buckets and activations at their worst in the forward and backward pass.
        step: gradients in their last form, and copies, during the optimizer step.
        evaluation: activations of an evaluation.
        host: optimizer states in host memory, when they are offloaded.
    """

    weights: int
    optimizer: int
    backward: int
    step: int
    evaluation: int
    host: int = 0

    @property
    def peak(self) -> int:
        """On the device, without what the process and its libraries need themselves."""
        return self.weights + self.optimizer + max(self.backward, self.step, self.evaluation)


def memory(
    settings: dict[str, Any],
    parameters: Parameters,
    activations: Activations,
    world_size: int,
    *,
    on_cpu: bool = False,
) -> Memory:
    """What a rank needs.

    Args:
        settings: the DeepSpeed configuration.
        activations: of its micro-batch, in the run's number format.
        on_cpu: count of a bucket what is ever written to: a CPU gives no memory for the rest.
    """
    stage, zero = zero_stage(settings), settings.get("zero_optimization", {})
    w, n = 4 if precision(settings) == "float32" else 2, world_size
    total, trained = parameters.total, parameters.trained
    bucket = int(zero.get("reduce_bucket_size", 5e8))
    filled = min(bucket, trained)
    reserved = (filled if on_cpu else bucket) * w
    offload = zero.get("offload_optimizer", {}).get("device", "none") != "none"

    if stage == 0:
        master = 0 if w == 4 else MASTER * trained
        reduced = w * filled if n > 1 or w == 4 else 0  # gradients flattened for the all-reduce
        return Memory(
            weights=w * (total + parameters.apart),
            optimizer=master + STATES * trained,
            backward=max(activations.with_gradients, w * trained + reduced),
            step=w * trained + (MASTER * trained if w == 2 else 0),
            evaluation=activations.evaluation,
        )
    optimizer = (MASTER + STATES) * trained // n
    own = w * trained // n  # this rank's part of the gradients, apart from those under way
    flat = 4 * parameters.group // n  # one group's gradients as the optimizer wants them
    on_device, host = (0, optimizer + 4 * trained // n) if offload else (optimizer, 0)
    if stage == 3:
        live = min(int(zero.get("stage3_max_live_parameters", 1e9)), total)
        weights = w * (total // n + live + parameters.apart)
        return Memory(
            weights=weights,
            optimizer=on_device + (0 if offload else own),
            backward=max(activations.training + reserved, w * filled + reserved),
            step=0 if offload else flat,
            evaluation=activations.evaluation,
            host=host,
        )
    if stage == 1:
        backward = max(activations.with_gradients, w * trained + reserved + own)
    else:
        backward = max(activations.training + reserved, w * filled + reserved + own)
    return Memory(
        weights=w * (total + parameters.apart),
        optimizer=on_device,
        backward=backward,
        step=0 if offload else own + flat,
        evaluation=activations.evaluation,
        host=host,
    )
