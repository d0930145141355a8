"""Real training runs in a few processes that are started once and used again: importing the libraries takes seconds."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from vadv.ports import free_port


def _serve(pipe: Connection, log: str) -> None:
    """A rank: runs `train` as often as it is told to."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    import torch

    from vadv import config_file
    from vadv.training import train

    linear = torch.nn.functional.linear
    while (order := pipe.recv()) is not None:
        environment, settings, run, options = order
        # ZeRO-3 puts its own linear in this place for good; a run on its own begins with the original.
        torch.nn.functional.linear = linear
        os.environ.update(environment)
        try:
            pipe.send(train(config_file.build(settings), run, **options))
        except (ValueError, OSError) as error:
            pipe.send(f"{type(error).__name__}: {error}")
        except BaseException as error:
            pipe.send(f"bug: {type(error).__name__}: {error}")
            raise


class Ranks:
    """Processes that train together, one group for each number of ranks.

    Groups are not mixed: ZeRO-3 numbers modules by a counter of the process, which must agree between ranks.
    """

    def __init__(self, folder: Path) -> None:
        self.log = folder / "ranks.log"
        self._groups: dict[int, list[tuple[Connection, Any]]] = {}

    def _group(self, world: int) -> list[Connection]:
        if world not in self._groups:
            context = multiprocessing.get_context("spawn")
            self._groups[world] = []
            for _ in range(world):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, str(self.log)), daemon=False)
                process.start()
                theirs.close()
                self._groups[world].append((ours, process))
        return [pipe for pipe, _ in self._groups[world]]

    def train(self, settings: Mapping[str, Any], run: Path, world: int = 2, **options: Any) -> Any:
        """Train on `world` ranks; the exit code, or the text of the error, the same on all ranks."""
        port = free_port()
        pipes = self._group(world)
        for rank, pipe in enumerate(pipes):
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            pipe.send((environment, dict(settings), str(run), options))
        answers: dict[int, Any] = {}
        seconds = 900
        while len(answers) < world:
            waiting = {pipe: rank for rank, pipe in enumerate(pipes) if rank not in answers}
            ready = wait(list(waiting), seconds)
            if not ready:
                pytest.fail(f"answers: {answers}; log:\n{self.log.read_text()[-3000:]}")
            for pipe in ready:
                assert isinstance(pipe, Connection)
                try:
                    answers[waiting[pipe]] = pipe.recv()
                except EOFError:
                    pytest.fail(f"a rank ended; log:\n{self.log.read_text()[-3000:]}")
            if any(isinstance(answer, str) for answer in answers.values()):
                seconds = 120  # the others should know by now
        assert len(set(answers.values())) == 1, answers
        if str(answers[0]).startswith("bug"):
            pytest.fail(f"{answers[0]}\n{self.log.read_text()[-3000:]}")
        return answers[0]

    def close(self) -> None:
        """End all processes."""
        for pipe, process in (member for group in self._groups.values() for member in group):
            with contextlib.suppress(OSError):
                pipe.send(None)
            process.join(10)
            process.kill()


def changed(settings: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Settings with some of them changed: sections are merged, `train={"lr": 1}`."""
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}
    for key, value in changes.items():
        merged[key] = {**merged[key], **value} if isinstance(value, dict) and key in merged else value
    return merged


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def logged(run: Path, split: str = "train") -> dict[int, dict[str, Any]]:
    """Lines of metrics.jsonl by step."""
    return {
        line["step"]: line for line in lines(run / "metrics.jsonl") if line["split"] == split and "event" not in line
    }


NUMBERS = ("loss", "text_mse", "video_mse", "prompt_ce", "prompt_to_video", "video_to_text", "grad_norm", "lr")


def numbers(run: Path) -> dict[int, dict[str, float]]:
    """What a step's line says of the training itself, without times."""
    return {step: {name: line[name] for name in NUMBERS if name in line} for step, line in logged(run).items()}


def samples(run: Path) -> dict[tuple[int, int], list[str]]:
    """Sample ids of each (epoch, step), all ranks together, sorted; every id stands there once."""
    found: dict[tuple[int, int], list[str]] = {}
    for path in run.glob("samples-*.jsonl"):
        for line in lines(path):
            found.setdefault((line["epoch"], line["step"]), []).extend(line["ids"])
    return {key: sorted(ids) for key, ids in found.items()}
