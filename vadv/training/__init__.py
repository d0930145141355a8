"""Training under DeepSpeed. `train` is the one entry; everything heavy is imported when it is called."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vadv.config import Config


def train(config: Config, run: str | Path, resume: str = "auto", debug: bool = False) -> int:
    """Train, or go on training, the run in folder `run`. Called by every rank.

    Ranks come from the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), as `deepspeed`, `torchrun`
    and slurm/ set them; without them the run has one process.

    Args:
        config: the settings; recorded as RUN/config.yaml.
        run: folder of the run, the same for all ranks.
        resume: `auto` goes on from the newest complete checkpoint if there is one, `never` refuses a folder that holds
            a run, anything else is the path of a checkpoint to start from.
        debug: anomaly checks for every step.

    Returns:
        Exit code: 0 finished, 3 stopped by itself, 75 stopped by a signal after a save (docs/reliability.md).

    Raises:
        ValueError, OSError: wrong configuration or input, in one line.
    """
    from vadv.training import libraries
    from vadv.training.signals import StopSignals

    config.train.accumulation(int(os.environ.get("WORLD_SIZE", "1")))  # told before seconds of loading
    _quiet_libraries()
    compiles = config.teacher is not None and config.teacher.compile
    # From here on a signal ends the run in good order, also while libraries load.
    with StopSignals() as stop, libraries.compiling(compiles):
        libraries.load(config)
        from vadv.training.run import Run

        return Run(config, Path(run), resume=resume, debug=debug, stop=stop).train()


def _quiet_libraries() -> None:
    """Keep a run's output to what a person wants to read: no bars for loading files, no notes to library authors."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # without a network, it would tell of every retry
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
