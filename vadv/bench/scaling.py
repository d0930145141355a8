"""One rank against several on this machine: steps per second, and what the ranks send each other.

Weak scaling: each rank has as many clips and one thread, however many ranks there are. The model is the sample's
(configs/sample.yaml) on made clips in memory; ranks are started together and their medians compared. Messages are those
that DeepSpeed's own log of collectives counts, beside what the papers of ZeRO and of ring algorithms predict.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vadv.bench.made import made_batch
from vadv.bench.ranks import on_ranks
from vadv.bench.table import Row
from vadv.config import Config

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
WARM_UP = 3
MB = 1e6


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--config", default="configs/sample.yaml", help="whose model is trained (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=8, help="clips per rank and step (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=25, help="tokens per text (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="steps of each run (default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=2, help="against one (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each, in turn; the best counts (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> list[Row]:
    """Measure steps, then messages per ZeRO stage."""
    return [*_steps(options), *(messages(options, stage) for stage in range(4))]


def _steps(options: argparse.Namespace) -> list[Row]:
    best: dict[int, float] = {}
    apart = float("inf")
    for _ in range(options.repeats):
        for size in (1, options.ranks):
            found = _run(options, size, "zero1", options.steps, count=False)
            best[size] = min(best.get(size, float("inf")), found["seconds"])
        with ThreadPoolExecutor(options.ranks) as side_by_side:
            runs = [side_by_side.submit(_run, options, 1, "zero1", options.steps, False) for _ in range(options.ranks)]
            apart = min(apart, max(run.result()["seconds"] for run in runs))
    rows = [
        Row(
            f"scaling: a step on {size} rank(s), {options.clips} clips each",
            seconds,
            "s",
            best[1] / seconds,
            "one rank",
        )
        for size, seconds in best.items()
    ]
    # Cores that share a cache, a memory bus or each other's units slow each other down without a message.
    rows.append(Row(f"scaling: {options.ranks} single ranks side by side", apart, "s", best[1] / apart, "one rank"))
    return rows


def messages(options: argparse.Namespace, stage: int) -> Row:
    """Bytes that a ZeRO stage sends in a step, against theory."""
    found = _run(options, options.ranks, f"zero{stage}", 2, count=True)
    expected = theory(stage, found["trainable"], found["frozen"])
    row = Row(f"messages a step, ZeRO-{stage}", found["bytes"] / MB, "MB")
    row.ratio, row.to = expected / found["bytes"], "theory / counted"
    row.more = {name: f"{size / MB:.1f} MB" for name, size in found["by operation"].items()}
    return row


def theory(stage: int, trainable: int, frozen: int) -> float:
    """Bytes of the messages of a step in float32, as ZeRO's paper (section 7) counts them: sizes of the tensors.

    0 reduces all gradients to all ranks. 1 and 2 reduce them to their owners and gather the new parameters. 3 reduces
    gradients to their owners and gathers all parameters, frozen ones too: for the forward pass, and again for the
    backward pass those that could not stay (the preset's stage3_max_live_parameters, of which these models are below).
    """
    numbers = {0: trainable, 1: 2 * trainable, 2: 2 * trainable, 3: 2 * trainable + frozen}[stage]
    return 4.0 * numbers


def _run(options: argparse.Namespace, size: int, preset: str, steps: int, count: bool) -> dict[str, Any]:
    from vadv.config_file import load

    settings = json.loads(Path(f"configs/deepspeed/{preset}.json").read_text())
    if count:
        settings["comms_logger"] = {"enabled": True, "verbose": False, "prof_all": True, "debug": False}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(settings, file)
        file.flush()
        changes = {"train.batch_size": size * options.clips, "deepspeed": file.name}
        found = on_ranks(size, _train, load(options.config, changes), options.tokens, steps, count, environment=THREADS)
    return max(found, key=lambda rank: rank["seconds"])


def _train(config: Config, tokens: int, steps: int, count: bool) -> dict[str, Any]:
    """Steps of this rank: median seconds, and bytes of messages a step."""
    import torch

    from vadv import tasks
    from vadv.training.distributed import join
    from vadv.training.engine import build_engine, set_learning_rate

    torch.set_num_threads(1)
    world = join(600)
    task = tasks.build(config, 16)
    trainable = sum(p.numel() for p in task.module.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in task.module.parameters() if not p.requires_grad)
    engine = build_engine(task.module, config, world)
    batch = made_batch(config, config.train.micro(world.size), tokens)

    def step() -> None:
        set_learning_rate(engine, 1e-6)
        engine.backward(engine(batch)["loss"])
        engine.step()

    for _ in range(WARM_UP):
        step()
    before = _messages(world.size) if count else {}
    took = []
    for _ in range(steps):
        world.barrier()
        began = time.perf_counter()
        step()
        took.append(time.perf_counter() - began)
    sent = {
        name: (size - before.get(name, 0)) / steps for name, size in (_messages(world.size) if count else {}).items()
    }
    world.leave()
    return {
        "seconds": statistics.median(took),
        "bytes": sum(sent.values()),
        "by operation": {name: size for name, size in sent.items() if size >= MB / 20},
        "trainable": trainable,
        "frozen": frozen,
    }


def _messages(size: int) -> dict[str, float]:
    """Bytes by operation, from DeepSpeed's log of collectives: of the whole tensor, where a gather logs a rank's part."""
    import deepspeed.comm.comm as comm

    found = {}
    for name, sizes in comm.comms_logger.comms_dict.items():
        whole = size if name.startswith("all_gather") else 1
        found[name] = float(sum(bytes_ * whole * times[0] for bytes_, times in sizes.items()))
    return found
