"""What the two spaces of the EICS-style students are good for, and how their vectors are best compared.

    python docs/experiments/eics_spaces.py data/events-shards

Students alone, 28 epochs of batch 20, the best epoch by validation mAP, test mAP as mean ± deviation over three seeds.
Varied: the weights of the spaces' losses; adding the spaces up, or joining them by a three-layer MLP; logits or their
softmax as the vector.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn

from vadv import metrics
from vadv.comparators.comparator import Pairs
from vadv.comparators.results import read_pairs
from vadv.models.batch import Batch
from vadv.models.eics import ModalityStudent, SpaceMLP, SpaceOutput, build_students
from vadv.objectives.spaces import SpaceLoss
from vadv.tasks.retrieval import vectors

EPOCHS, BATCH, SEEDS = 28, 20, (1, 2, 3)
MODALITIES = ("audio", "visual")


class Joined(nn.Module):
    """Spaces joined by one more MLP: the alternative that was not taken."""

    def __init__(self, student: ModalityStudent, classes: int) -> None:
        super().__init__()
        self.student, self.mlp = student, SpaceMLP(2 * classes, 128, classes)

    def forward(self, x: Tensor) -> SpaceOutput:
        out = self.student(x)
        logit, hidden, first = self.mlp(torch.cat([out.explicit, out.implicit], dim=1))
        return SpaceOutput(
            logit=logit, hidden=hidden, representation=first, explicit=out.explicit, implicit=out.implicit
        )


def run(splits: dict[str, Pairs], seed: int, explicit: float, implicit: float, joined: bool) -> dict[str, float]:
    """Test mAP of the best epoch, by kind of vector."""
    train = splits["train"]
    classes = int(train.labels.max()) + 1
    features = {s: {m: torch.from_numpy(getattr(p, m)) for m in MODALITIES} for s, p in splits.items()}
    widths = {m: x.shape[1] for m, x in features["train"].items()}
    students = build_students(widths, hidden=128, classes=classes, seed=seed)
    for name, student in students.items():
        student.standardise(features["train"][name])
    torch.manual_seed(seed)
    modules = {name: Joined(student, classes) if joined else student for name, student in students.items()}
    spaces, rng = SpaceLoss(explicit, implicit), np.random.default_rng(seed)
    parameters = [p for module in modules.values() for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    steps = EPOCHS * (len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5 * (1 + np.cos(np.pi * k / steps)))
    best: dict[str, tuple[float, float]] = {}
    for _ in range(EPOCHS):
        order = rng.permutation(len(train))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            label = torch.from_numpy(train.labels[rows])
            batch = Batch(weight=torch.ones(BATCH), label=label, index=label, noise=label)
            outputs = {name: module(features["train"][name][rows]) for name, module in modules.items()}
            loss = 10 * sum(nn.functional.cross_entropy(out.logit, label, reduction="sum") for out in outputs.values())
            optimizer.zero_grad()
            ((loss + spaces(outputs, batch)[0]) / BATCH).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            logits = {s: {n: modules[n](x).logit.double().numpy() for n, x in f.items()} for s, f in features.items()}
        for kind in ("logits", "probabilities"):
            valid, test = (
                metrics.retrieval(*(vectors(logits[s][m], kind) for m in MODALITIES), splits[s].labels)
                for s in ("valid", "test")
            )
            best[kind] = max(best.get(kind, (-1.0, -1.0)), (valid["map_mean"], test["map_mean"]))
    return {kind: test for kind, (_, test) in best.items()}


def main() -> None:
    """All variants."""
    torch.set_num_threads(1)
    splits = {split: read_pairs([sys.argv[1]], split) for split in ("train", "valid", "test")}
    print(f"{'explicit':>8} {'implicit':>8}  {'spaces':10} {'logits':>14} {'probabilities':>14}")
    for joined in (False, True):
        for explicit, implicit in ((0, 0), (1, 0), (0, 1), (1, 1), (10, 1), (1, 10)):
            found = [run(splits, seed, explicit, implicit, joined) for seed in SEEDS]
            cells = []
            for kind in ("logits", "probabilities"):
                scores = [one[kind] for one in found]
                cells.append(f"{np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}")
            how = "joined" if joined else "added"
            print(f"{explicit:8} {implicit:8}  {how:10} {cells[0]:>14} {cells[1]:>14}", flush=True)


if __name__ == "__main__":
    main()
