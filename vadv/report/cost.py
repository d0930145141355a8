"""What inference costs (Table 5): the student, from the saved folder, against teacher and student together.

Each subject is measured in a process of its own, so that its memory is its own. The student is what `RUN/student` holds,
on transcripts of the test split; teacher and student are built by the run's configuration with random weights (their
cost is that of the trained ones) and are given T frames and the face features of each clip. Decoding a video and finding
its faces come on top of that and are not counted.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vadv.report.runs import Run
from vadv.report.table import Column, Part, Row, Table, millions

STUDENT, BOTH = "student", "teacher + student"
BATCH = 16
"""Clips per forward pass for throughput."""
SECONDS = 8.0
"""Time given to each measurement, after one pass to warm up; at least three passes are timed."""
TEXTS = 64
"""Transcripts that are measured on."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured cost of inference.

    Attributes:
        subject: `student` or `teacher + student`.
        run, seed, student, datasets: whose.
        device: `cpu` or a GPU's name.
        threads: of the CPU.
        parameters: in all.
        tokens: mean tokens of a transcript, padding left out.
        flops: floating-point operations of one clip, a multiply-add counted as two, padding left out.
        latency: median seconds of one clip by itself.
        throughput: clips a second in batches of `BATCH`.
        memory: bytes above an idle process (CPU: peak resident; GPU: peak allocated).
    """

    subject: str
    run: str
    seed: int | None
    student: str
    datasets: list[str]
    device: str
    threads: int
    parameters: int
    tokens: float
    flops: float
    latency: float
    throughput: float
    memory: int


NAME = "table-05-cost"
"""Name of the table's files."""

COLUMNS = (
    Column(key="parameters", label="Parameters"),
    Column(key="gflops", label="GFLOPs per clip", digits=2),
    Column(key="latency", label="Latency (ms)", digits=1),
    Column(key="throughput", label="Clips/s", digits=1),
    Column(key="memory", label="Memory (MB)", digits=0),
)


def measure(run: Run, student: str, progress: Callable[[str], None] = lambda what: None) -> list[Cost]:
    """Measure a run's student and its teacher + student, on the CPU and on a GPU where there is one.

    Args:
        run: a finished sentiment run with a teacher.
        student: the student's name in tables.
        progress: told what is being measured.

    Raises:
        ValueError: the run has no saved student or no predictions to take transcripts from.
    """
    folder = run.folder / "student"
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: expected the saved student of the run, found none")
    texts = [row["text"] for row in run.predictions() if row.get("text", "").strip()]
    if not texts:
        raise ValueError(f"{run.folder / 'predictions' / 'test.csv'}: expected transcripts, found none")
    texts = texts[:: max(1, len(texts) // TEXTS)][:TEXTS]
    about: dict[str, Any] = {"run": run.name, "seed": run.seed, "student": student, "datasets": list(run.datasets)}
    found = []
    for device in ("cpu", "cuda"):
        for subject in (STUDENT, BOTH):
            progress(f"{student}: {subject} on {device}")
            job = {
                "folder": str(folder),
                "config": run.config,
                "texts": texts,
                "subject": subject,
                "device": device,
                "batch": BATCH,
                "seconds": SECONDS,
            }
            # spawn: a fresh process has only its own memory, and may start CUDA.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                values = pool.submit(_measure, job).result()
            if values:
                found.append(Cost(**about, subject=subject, **values))
    return found


def save(costs: Sequence[Cost], path: Path) -> None:
    """Keep measurements: later reports in the same folder show them without measuring again."""
    path.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> list[Cost]:
    """Measurements kept by `save`; none where there are none.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        return [Cost(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: expected measurements of an earlier report, found {error}; remove the file"
        ) from None


def table(costs: Sequence[Cost]) -> Table | None:
    """The second half of Table 5."""
    if not costs:
        return None
    made = Table(number=5, name=NAME, title="Measured cost of inference", columns=COLUMNS)
    for cost in costs:
        row = Row(key="", label=f"{cost.student}: {cost.subject}, {cost.device}")
        values = {
            "gflops": cost.flops / 1e9,
            "latency": cost.latency * 1e3,
            "throughput": cost.throughput,
            "memory": cost.memory / 1e6,
        }
        row.cells = {column.key: [Part(text=column.text(values[column.key]))] for column in COLUMNS[1:]}
        row.cells["parameters"] = [Part(text=millions(cost.parameters))]
        made.rows.append(row)
    threads = sorted({cost.threads for cost in costs if cost.device == "cpu"})
    made.notes.append(
        f"latency: one clip by itself, median; clips/s: batches of {BATCH}; memory: above an idle process; CPU with "
        f"{' or '.join(map(str, threads))} threads, float32; transcripts of {costs[0].tokens:.0f} tokens on average; "
        "decoding videos and finding faces, which only the teacher needs, not counted"
    )
    return made


class _Student:
    """The saved student on transcripts."""

    def __init__(self, job: dict[str, Any], device: Any) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        tokenizer = AutoTokenizer.from_pretrained(job["folder"], local_files_only=True)
        most = int(job["config"]["student"]["max_tokens"])
        self.tokens = [tokenizer(text, truncation=True, max_length=most)["input_ids"] for text in job["texts"]]
        self.pad, self.device = tokenizer.pad_token_id, device
        self.model = AutoModelForSequenceClassification.from_pretrained(job["folder"], local_files_only=True)
        self.model.to(device).eval()
        self.modules = [self.model]

    @property
    def mean(self) -> float:
        """Mean tokens of a transcript."""
        return statistics.fmean(map(len, self.tokens))

    @property
    def usual(self) -> int:
        """Number of the transcript whose length is nearest to the mean."""
        return min(range(len(self.tokens)), key=lambda row: abs(len(self.tokens[row]) - self.mean))

    def __call__(self, start: int, count: int) -> None:
        """Score `count` clips from number `start` on; after the last comes the first."""
        import torch

        rows = [self.tokens[(start + i) % len(self.tokens)] for i in range(count)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [self.pad] * (width - len(row)) for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.device)
        self.model(input_ids=ids, attention_mask=mask)


class _Both(_Student):
    """The same, and the teacher on frames and faces."""

    def __init__(self, job: dict[str, Any], device: Any) -> None:
        import torch

        from vadv.config_file import build
        from vadv.models import build_teacher

        super().__init__(job, device)
        config = build(job["config"])
        assert config.teacher is not None
        settings = replace(config.teacher, weights="random", compile=False)
        frames, size = config.data.frames, config.data.frame_size
        self.teacher = build_teacher(settings, config.seed, frames=frames, frame_size=size).to(device).eval()
        self.frames = torch.randint(0, 256, (job["batch"], frames, 3, size, size), dtype=torch.uint8, device=device)
        self.faces = torch.randn(job["batch"], 64, 8, device=device)
        self.modules.append(self.teacher)

    def __call__(self, start: int, count: int) -> None:
        """Score `count` clips."""
        import torch

        from vadv.models.batch import Batch

        super().__call__(start, count)
        zeros = torch.zeros(count, dtype=torch.int64, device=self.device)
        batch = Batch(
            weight=torch.ones(count, device=self.device),
            label=torch.zeros(count, device=self.device),
            index=zeros,
            noise=zeros,
            frames=self.frames[:count],
            faces=self.faces[:count],
            face_mask=torch.ones(count, 64, dtype=torch.bool, device=self.device),
        )
        self.teacher(batch)


def _measure(job: dict[str, Any]) -> dict[str, Any] | None:
    """Runs in a process of its own."""
    import psutil
    import torch

    device = torch.device(job["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        return None
    torch.manual_seed(0)
    idle = psutil.Process().memory_info().rss
    with torch.no_grad():
        subject = _Student(job, device) if job["subject"] == STUDENT else _Both(job, device)
        flops = _flops(lambda: subject(subject.usual, 1))
        latency = _timed(lambda start: subject(start, 1), device, job["seconds"])
        each = _timed(lambda start: subject(start, job["batch"]), device, job["seconds"])
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - idle
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for module in subject.modules for p in module.parameters()),
        "tokens": subject.mean,
        "flops": flops,
        "latency": latency,
        "throughput": job["batch"] / each,
        "memory": memory,
    }


def _flops(call: Callable[[], None]) -> int:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter knows matrix products; fused attention kernels of the CPU would pass it by.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def _timed(call: Callable[[int], None], device: Any, seconds: float) -> float:
    """Median seconds of a call, over different clips, after one to warm up; for about so many seconds in all."""
    import torch

    def once(start: int) -> float:
        begun = time.perf_counter()
        call(start)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    once(0)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < 500):
        times.append(once(len(times) * 7))
    return statistics.median(times)
