"""A run's libraries, imported in one go: most of the time from the command to the first step."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vadv.config import Config


def load(config: Config) -> None:
    """Import what a run needs, without looking for garbage meanwhile.

    Importing makes 600,000 objects that stay; Python would walk through them again and again, for a quarter of the time.
    They are set apart from later searches as well.
    """
    collecting, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        from vadv.training.distributed import choose_accelerator

        choose_accelerator()
        import deepspeed  # noqa: F401
        import torch._dynamo  # noqa: F401 - torch's optimizers do

        from vadv import tasks

        if config.teacher is not None:
            import open_clip  # noqa: F401
        if tasks.kind(config).text:
            import transformers.modeling_utils  # noqa: F401
            from transformers import AutoModel, AutoTokenizer  # noqa: F401

        import vadv.training.run  # noqa: F401
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        if collecting:
            gc.enable()


@contextmanager
def compiling(wanted: bool) -> Iterator[None]:
    """Whether torch.compile compiles. Where nothing is to be compiled, DeepSpeed's ZeRO need not load the compiler."""
    name, before = "TORCHDYNAMO_DISABLE", os.environ.get("TORCHDYNAMO_DISABLE")
    if not wanted:
        os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
