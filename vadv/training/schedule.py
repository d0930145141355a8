"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Factor on the peak learning rate for optimizer step `step`, counted from 0 (Table 3).

    Linear from 0 over the first `warmup` steps, then half a cosine to zero at `total`: the values of transformers'
    `get_cosine_schedule_with_warmup`, which the paper names.
    """
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
