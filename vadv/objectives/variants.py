"""Which transfers a variant consists of (Tables 10 and 11).

| variant              | first step, prompt → video | second step, video → student                   |
|----------------------|----------------------------|------------------------------------------------|
| `step`               | MSE of logits (eq. 13)     | MSE of logits (eq. 14)                         |
| `step-without-first` | none                       | MSE of logits                                  |
| `none`               | none                       | none                                           |
| `crd`                | MSE of logits              | CRD of V and V^(t)                             |
| `kd`                 | KD of class logits         | KD of class logits                             |
| `fitnet`             | FitNet of hidden layers    | FitNet of hidden layers                        |
| `pkt`                | PKT                        | PKT; of hidden layers, of logits for retrieval |

The paper adapted KD, FitNet and PKT to its two steps (section 5.6.5). It does not say whether CRD kept the first step;
`objective.delta=0` takes it away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from vadv.models.outputs import Widths
from vadv.models.seeding import seeded
from vadv.objectives.crd import CRD
from vadv.objectives.fitnet import FitNet
from vadv.objectives.joint import Joint
from vadv.objectives.kd import KD
from vadv.objectives.pkt import PKT
from vadv.objectives.step import Step
from vadv.objectives.transfer import Gather, Transfer, alone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from vadv.config import Config
    from vadv.models.teacher import Teacher


def build_objective(
    config: Config,
    teacher: Teacher | None,
    student: nn.Module | Mapping[str, nn.Module],
    clips: int,
    gather: Gather = alone,
) -> Joint:
    """Build the joint loss of a configuration.

    Args:
        config: the run's settings.
        teacher: None for a student alone; the variant then has nothing to say.
        student: the text student, or several by name; each has a `head` with `widths`, as `LogitMLP` has.
        clips: number of training clips, for CRD's memories.
        gather: joins the ranks' micro-batches, for CRD and PKT.

    Raises:
        ValueError: the variant is not defined for the task.
    """
    students: Mapping[str, nn.Module] = student if isinstance(student, dict) else {"text": student}
    labels = "real" if config.task == "sentiment" else "class"
    if teacher is None:
        return Joint(config.objective, labels=labels)  # type: ignore[arg-type]
    variant = config.objective.variant
    first = None
    if variant not in ("none", "step-without-first"):
        with seeded(config.seed, "objective.first"):
            first = _transfer(
                "step" if variant == "crd" else variant,
                teacher.prompt_logit.widths,
                teacher.video_logit.widths,
                config,
                clips,
                gather,
            )
    second: dict[str, Transfer] = {}
    if variant != "none":
        for name, module in students.items():
            with seeded(config.seed, f"objective.{name}"):
                widths = cast(Any, module).head.widths
                second[name] = _transfer(variant, teacher.video_logit.widths, widths, config, clips, gather)
    return Joint(config.objective, labels=labels, first=first, second=second)  # type: ignore[arg-type]


def _transfer(variant: str, teacher: Widths, student: Widths, config: Config, clips: int, gather: Gather) -> Transfer:
    """The transfer of a variant between two outputs of these widths."""
    if variant in ("step", "step-without-first"):
        return Step()
    if variant == "kd":
        if student.logit == 1:
            raise ValueError(
                "objective.variant: kd compares class probabilities, and the softmax of sentiment's one logit is "
                "always 1: loss and gradient would be exactly 0; expected step, step-without-first, none, crd, fitnet "
                "or pkt, or task=retrieval"
            )
        return KD(config.objective.temperature)
    if variant == "fitnet":
        return FitNet(teacher.hidden, student.hidden)
    if variant == "pkt":
        # The cosine of two one-column logits is ±1 whatever their size.
        return PKT("hidden" if student.logit == 1 else "logit", gather)
    assert variant == "crd", variant
    return CRD(teacher.representation, student.representation, clips, config.objective.crd_negatives, gather)
