"""Tell, before a night is lost, whether this machine or allocation can run a configuration.

    python launch/doctor.py --config configs/mosi.yaml                  this machine
    python launch/doctor.py --config configs/mosi.yaml --fetch          login node: fetch the weights first
    srun --nodes 2 --gpus-per-node 4 --ntasks-per-node 4 python launch/doctor.py --config configs/mosi.yaml
    python launch/doctor.py --sweep configs/sweeps/table2.yaml          also what its slurm section asks of the site

Prints a line for each check: ok, warn (it runs, but ...) or fail, with what to do. Exit code 1: there was a fail.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _command import FINE, NOT_FINE, run, settings_parser

if TYPE_CHECKING:
    from vadv.config import Config
    from vadv.doctor import Finding


def main() -> int:
    """Parse, check, print."""
    from vadv import config_file

    parser = settings_parser(__doc__)
    parser.add_argument(
        "--run", type=str, default="runs/new", metavar="FOLDER", help="folder in which the run would write"
    )
    parser.add_argument(
        "--sweep", type=str, metavar="FILE", help="sweep file: its slurm section is checked against this site"
    )
    parser.add_argument("--fetch", action="store_true", help="fetch missing weights (login nodes have internet)")
    parser.add_argument("--thorough", action="store_true", help="decode every clip, not only compare checksums")
    parser.add_argument("--ranks", type=int, help="ranks on this machine (default: one per GPU, two without GPUs)")
    config, options = config_file.parse(parser, sys.argv[1:])

    if options.ranks is not None and options.ranks < 1:
        raise ValueError(f"--ranks: expected at least 1, found {options.ranks}")

    from slurm.rendezvous import adopt

    adopt(Path(options.run))
    if os.environ.get("RANK", "0") == "0":
        failed = check(config, options)
    else:
        from vadv.doctor.ranks import measure

        measure()
        failed = False
    return NOT_FINE if failed else FINE


def check(config: Config, options: Any) -> bool:
    """Run all checks, print each outcome as it comes; returns whether one failed."""
    from vadv import config_file
    from vadv.doctor import cache, data, fail, machine, ranks, weights

    launched = int(os.environ.get("WORLD_SIZE", "0"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", launched)) or options.ranks or default_ranks()
    size = launched or here
    checks: list[Callable[[], Iterable[Finding]]] = [
        machine.versions,
        lambda: machine.devices(config, size, here),
        lambda: arithmetic(config, size),
        lambda: ranks.measure() if launched else ranks.measure_here(size),
        lambda: weights.weights(config, config_file.dump(config), options.fetch),
        lambda: data.shards(config, fast=not options.thorough),
        lambda: data.throughput(config, here),
        lambda: cache.cache(config),
        lambda: machine.room(config, Path(options.run)),
        lambda: site(options.sweep),
    ]
    failed = False
    for each in checks:
        try:
            for finding in each():
                print(finding.line(), flush=True)
                failed |= finding.verdict == "fail"
        except (ValueError, OSError, RuntimeError) as error:
            print(
                fail("check", f"{type(error).__name__}: {error}", "mend what is named above first").line(), flush=True
            )
            failed = True
    return failed


def arithmetic(config: Config, size: int) -> Iterable[Finding]:
    """Whether the batch fits the ranks."""
    from vadv.doctor import fail, ok

    try:
        steps = config.train.accumulation(size)
    except ValueError as error:
        return [fail("batch", str(error), "or start another number of ranks")]
    micro = config.train.micro(size)
    return [ok("batch", f"{config.train.batch_size} = {size} ranks x {micro} clips x {steps} accumulations")]


def site(sweep: str | None) -> Iterable[Finding]:
    """Slurm, against the settings of a sweep or the defaults."""
    from slurm.doctor import check as check_slurm
    from slurm.settings import Slurm
    from slurm.sweep import read_sweep
    from vadv.doctor import Finding

    settings = read_sweep(Path(sweep)).slurm if sweep else Slurm()
    for verdict, text, remedy in check_slurm(settings):
        yield Finding(verdict=verdict, check="slurm", text=text, remedy=remedy)  # type: ignore[arg-type]


def default_ranks() -> int:
    """One per GPU, or two."""
    from slurm.local import visible_devices

    return len(visible_devices()) or 2


if __name__ == "__main__":
    run(main)
