"""Train VideoAdviser: teacher and student together, in one DeepSpeed engine.

    deepspeed launch/train.py --config configs/mosi.yaml --run runs/mosi         one machine, all its GPUs
    python launch/train.py --config configs/mosi.yaml --debug                    one process, a few steps, tiny weights
    python launch/train.py --config configs/mosi.yaml --plan --world-size 4      parameters, weights and memory
    python launch/train.py --config configs/mosi.yaml --teacher null --train.lr 1e-5 --run runs/alone
    DS_ACCELERATOR=cpu deepspeed --num_accelerators 2 launch/train.py --config configs/sample.yaml --run runs/sample
    sbatch --array=0-4 --wrap 'python launch/train.py --config configs/mosi.yaml --seed $SLURM_ARRAY_TASK_ID'

Every setting is an option, and options go before the file. The same command goes on with a run that was interrupted.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from _command import run, settings_parser


def main() -> int:
    """Parse, train, return the exit code."""
    from vadv import config_file

    parser = settings_parser(__doc__)
    parser.add_argument(
        "--run", type=str, metavar="FOLDER", help="folder of the run (default: runs/ and the configuration's name)"
    )
    parser.add_argument(
        "--resume", default="auto", help="where to start from: auto, never, or the path of a checkpoint"
    )
    parser.add_argument("--debug", action="store_true", help="one process, a few steps, anomaly checks, tiny weights")
    parser.add_argument("--plan", action="store_true", help="print parameters, weights and memory, and leave")
    parser.add_argument(
        "--world-size", type=int, help="with --plan: number of GPUs (default: of the environment, or 1)"
    )
    config, options = config_file.parse(parser, sys.argv[1:])
    if options.world_size is not None and options.world_size < 1:
        raise ValueError(f"--world-size: expected at least 1, found {options.world_size}")
    if options.plan:
        from vadv.training.plan import plan

        print(plan(config, options.world_size))
        return 0
    if options.debug:
        from vadv.training.debug import small

        config, lines = small(config)
        print("debug:", "\n       ".join(lines), file=sys.stderr)
    name = next((Path(b).stem for a, b in zip(sys.argv, sys.argv[1:]) if a == "--config"), "run")
    element = os.environ.get("SLURM_ARRAY_TASK_ID")  # the elements of an array must not share a folder
    folder = Path(options.run or Path("runs") / (f"{name}-{element}" if element else name))

    from slurm.rendezvous import adopt
    from vadv.training import train

    adopt(folder)

    if options.debug and options.run is None:
        with tempfile.TemporaryDirectory(prefix="videoadviser-debug-") as scratch:
            return train(config, scratch, debug=True)
    return train(config, folder, resume=options.resume, debug=options.debug)


if __name__ == "__main__":
    run(main)
