"""One DeepSpeed engine around one module: its settings, its optimizer, its gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vadv.config import Config
from vadv.training.distributed import World

OURS = {
    "train_batch_size": "train.batch_size",
    "train_micro_batch_size_per_gpu": "train.micro_batch_size",
    "gradient_accumulation_steps": "train.batch_size and train.micro_batch_size",
    "gradient_clipping": "train.clip_grad",
    "optimizer": "train.lr and train.weight_decay",
    "scheduler": "train.warmup_steps and train.epochs",
}
"""Keys of a DeepSpeed JSON that the configuration decides, and where it does."""


def deepspeed_settings(config: Config, world_size: int, universal: bool = False) -> dict[str, Any]:
    """The DeepSpeed configuration of a run: the user's JSON plus what `config` decides. A pure function.

    Args:
        config: the run's settings; `config.deepspeed` is the path of the JSON.
        world_size: number of ranks.
        universal: load a universal checkpoint (another world size than the one it was saved with).

    Raises:
        ValueError: the JSON sets what the configuration decides, or batch sizes do not fit.
        FileNotFoundError: no such JSON.
    """
    path = Path(config.deepspeed)
    if not path.is_file():
        raise FileNotFoundError(f"deepspeed: expected the path of a DeepSpeed JSON, found no file {path}")
    try:
        settings = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"deepspeed: expected JSON in {path}, found {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"deepspeed: expected a JSON object in {path}, found {type(settings).__name__}")
    for key, ours in OURS.items():
        if settings.get(key, "auto") != "auto":
            raise ValueError(f"deepspeed: {path} sets {key}, which {ours} decides; remove it there")
    settings.pop("optimizer", None)
    settings.pop("scheduler", None)
    settings |= {
        "train_batch_size": config.train.batch_size,
        "train_micro_batch_size_per_gpu": config.train.micro(world_size),
        "gradient_accumulation_steps": config.train.accumulation(world_size),
        "gradient_clipping": config.train.clip_grad,
        "steps_per_print": 2**31,
    }
    if settings.get("bf16", {}).get("enabled"):
        # DeepSpeed would otherwise apply, or silently skip, an update with non-finite gradients (its issue #8415).
        settings["bf16"].setdefault("check_grad_overflow", True)
    if universal:
        settings["checkpoint"] = {**settings.get("checkpoint", {}), "load_universal": True}
    return settings


def zero_stage(settings: dict[str, Any]) -> int:
    """ZeRO stage of a DeepSpeed configuration."""
    return int(settings.get("zero_optimization", {}).get("stage", 0))


def precision(settings: dict[str, Any]) -> str:
    """`bfloat16`, `float16` or `float32`."""
    if settings.get("bf16", {}).get("enabled"):
        return "bfloat16"
    return "float16" if settings.get("fp16", {}).get("enabled") else "float32"


class CheckedAdamW(torch.optim.AdamW):
    """AdamW that refuses a non-finite gradient, for ZeRO stage 0; the other stages refuse it themselves.

    It speaks to DeepSpeed in the names that its own optimizers use: `overflow` makes the engine count a skipped step,
    `_global_grad_norm` is what it reports.
    """

    overflow = False
    _global_grad_norm = 0.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update, unless the gradient's norm, equal on all ranks, is not finite."""
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        self._global_grad_norm = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
        self.overflow = not torch.isfinite(torch.tensor(self._global_grad_norm)).item()
        return None if self.overflow else super().step(closure)


def parameter_groups(module: nn.Module, config: Config) -> list[dict[str, Any]]:
    """Trainable parameters by learning rate and weight decay; empty groups and frozen parameters are left out.

    Weight decay spares vectors and position embeddings, as X-CLIP does. Parameters of modules that a model names in
    `pretrained_parameters()` keep the plain learning rate, all others are new and get `train.new_module_lr_factor`.
    """
    pretrained = {id(p) for p in module.pretrained_parameters()} if hasattr(module, "pretrained_parameters") else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and "position" not in name
            groups.setdefault((id(parameter) in pretrained, decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.train.weight_decay if decayed else 0.0,
            "lr_factor": 1.0 if old else config.train.new_module_lr_factor,
        }
        for (old, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def build_engine(module: nn.Module, config: Config, world: World, universal: bool = False) -> Any:
    """Put `module` under DeepSpeed.

    Returns:
        A `deepspeed.DeepSpeedEngine`; its learning rate is set by `set_learning_rate`.
    """
    import deepspeed

    settings = deepspeed_settings(config, world.size, universal)
    groups = parameter_groups(module, config)
    offload = settings.get("zero_optimization", {}).get("offload_optimizer", {}).get("device", "none")
    if offload != "none":
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        optimizer: torch.optim.Optimizer = DeepSpeedCPUAdam(groups, lr=config.train.lr)
    elif zero_stage(settings) == 0 and precision(settings) == "float32":
        optimizer = CheckedAdamW(groups, lr=config.train.lr, fused=True)
    else:
        # Fused, also on a CPU: nine times as fast there, and without temporary copies of the flat partition.
        optimizer = torch.optim.AdamW(groups, lr=config.train.lr, fused=True)
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=settings)
    if world.size == 1 and zero_stage(settings) == 0:
        # A lone rank has nobody to average with; DeepSpeed would still copy all gradients to a buffer and back.
        engine.enable_backward_allreduce = False
    return engine


def set_learning_rate(engine: Any, lr: float) -> None:
    """Give each parameter group its rate for the coming step."""
    for group in engine.optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
