"""The one tree of settings. YAML files in configs/ fill it, dotted options override it, RUN/config.yaml records it.

Every default of the project stands here and nowhere else. Nothing heavy is imported, so `--help` stays quick.
Settings of a command that do not belong to a run's identity (`--run`, `--resume`, `--debug`) are options of the command.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vadv import parts

TASKS = "vadv.tasks"
DISTILLERS = "vadv.objectives.distillers"
PARTS = {"task": TASKS, "objective.variant": DISTILLERS}
"""Settings that name a file, and the package that it lies in."""
HANDLING = (
    "data.workers",
    "data.prefetch",
    "data.decode_timeout",
    "data.max_bad_fraction",
    "data.cache_dir",
    "data.cache_bytes",
    "teacher.cache_bytes",
    "train.micro_batch_size",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.skip_bad_steps",
    "train.stall_timeout",
    "log.every",
    "log.samples",
)
"""Settings of how a run is carried out: they change neither the samples' order nor the numbers."""


@dataclass(kw_only=True)
class Data:
    """What is read, and how."""

    shards: str | list[str] = "data/sample-shards"
    """A folder of shards (or its URL), or several: a list is the combined set, every clip once, shuffled as one."""
    workers: int = 2
    """Decoder processes per rank. 0 decodes in the training process, without protection against a hanging decoder."""
    prefetch: int = 4
    """Micro-batches per rank that are decoded ahead."""
    decode_timeout: float = 30.0
    """Seconds after which a clip's decoder is killed and the clip counted as bad."""
    max_bad_fraction: float = 0.01
    """The run stops once more than this share of the clips seen (and more than one clip) could not be read."""
    frames: int = 8
    """T: frames per clip that the teacher sees (Table 3)."""
    frame_size: int = 224
    """Height and width of a frame in pixels (Table 3)."""
    views: int = 0
    """Distinct random samplings of frames per clip, used in turn by the epochs; 0 draws afresh in each epoch.
    `cache_features` needs a number: each view of a clip is encoded once."""
    shuffle_window: int = 16
    """Shards whose samples are shuffled together: memory for the order is that of so many shards."""
    cache_dir: str | None = None
    """Folder on a local disk for remote shards and cached features; default: .cache/videoadviser in the home folder."""
    cache_bytes: int = 200 * 2**30
    """Bound on remote shards kept in `cache_dir`, in bytes."""

    def cache_folder(self) -> Path:
        """Where remote shards and cached features are kept on this machine."""
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return Path(self.cache_dir) if self.cache_dir else home / "videoadviser"

    def folders(self) -> list[str]:
        """The shard folders as a list, whichever way they were written."""
        return [self.shards] if isinstance(self.shards, str) else list(self.shards)

    def __post_init__(self) -> None:
        _require(self.frames >= 1, "data.frames", self.frames, "at least 1")
        _require(self.workers >= 0, "data.workers", self.workers, "0 or more")
        _require(self.prefetch >= 1, "data.prefetch", self.prefetch, "at least 1")
        _require(self.decode_timeout > 0, "data.decode_timeout", self.decode_timeout, "more than 0 seconds")
        _require(0 <= self.max_bad_fraction <= 1, "data.max_bad_fraction", self.max_bad_fraction, "a share, 0 to 1")
        _require(self.shuffle_window >= 1, "data.shuffle_window", self.shuffle_window, "at least 1 shard")


@dataclass(kw_only=True)
class CrossFrame:
    """CCT, the cross-frame communication transformer (section 4.1; X-CLIP)."""

    placement: Literal["after", "inside"] = "after"
    """`after`: CCT layers of their own on the tokens of frozen CLIP. `inside`: CLIP's blocks exchange messages, as X-CLIP."""
    layers: int = 2
    """Number of CCT layers for `after`; `inside` has as many as CLIP has blocks."""


@dataclass(kw_only=True)
class Teacher:
    """The CLIP-based video teacher (section 4.1)."""

    clip: str = "ViT-L-14-quickgelu"
    """An open_clip model name, the path of an open_clip model JSON, or a Hugging Face X-CLIP folder (placement `inside`)."""
    weights: str = "openai"
    """An open_clip tag, the path of a weights file, or `random` (seeded) for tests and the sample."""
    trainable_blocks: int = 0
    """Last K blocks of CLIP's visual tower that are trained (with activation checkpointing); 0 freezes it (section 4.1)."""
    trainable_text: bool = False
    """Train CLIP's text tower too. Frozen, the prompts are encoded once and not in each step."""
    cct: CrossFrame = field(default_factory=CrossFrame)
    mit_layers: int = 1
    """Transformer layers of the multi-frame integration transformer (eqs. 4 and 5)."""
    face: bool = True
    """Use the 64x8 face-expression features (eq. 1; Table 6 removes them)."""
    prompting: Literal["paper", "xclip"] | bool = "paper"
    """Video-specific prompting: one attention layer as eq. 7 prints it, X-CLIP's two layers, or false (Table 6)."""
    prompt: str = "A video with the {} face"
    """Text prompt per class (eq. 3)."""
    classes: list[str] = field(default_factory=lambda: ["negative", "positive"])
    """Words put into the prompt, one class each; for sentiment the second class holds 0."""
    hidden: int = 128
    """Hidden units of the two-layer MLPs (Table 3)."""
    cache_features: bool = False
    """Keep the output of frozen CLIP on disk, so that epochs after the first need neither decoding nor CLIP."""
    cache_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the feature cache; float32 keeps the run's own format, and on a CPU the losses of an uncached
    run bit for bit."""
    cache_bytes: int = 200 * 2**30
    """Bound on the features kept in `data.cache_dir`, in bytes. Clips beyond it are encoded in each epoch. A clip of the
    paper's ViT-L/14 takes 8.4 MB in float32, half of that in bfloat16."""
    compile: bool = False
    """torch.compile the frozen visual tower: slow first step, faster later ones on a GPU."""

    def __post_init__(self) -> None:
        if self.prompting is True:
            raise ValueError("teacher.prompting: expected paper, xclip or false, found true")
        _require(self.prompt.count("{}") == 1, "teacher.prompt", self.prompt, "a text with one {} for the class")
        _require(len(self.classes) >= 2, "teacher.classes", self.classes, "at least two classes")
        _require(self.trainable_blocks >= 0, "teacher.trainable_blocks", self.trainable_blocks, "0 or more")
        if self.cache_features and (self.trainable_blocks or self.cct.placement == "inside"):
            raise ValueError(
                "teacher.cache_features: expected a frozen visual tower, found "
                f"trainable_blocks={self.trainable_blocks} and cct.placement={self.cct.placement}; "
                "set teacher.cache_features to false, or trainable_blocks to 0 and cct.placement to after"
            )


@dataclass(kw_only=True)
class Student:
    """The text student (section 4.2): any Hugging Face encoder and a two-layer MLP on its first token."""

    model: str = "roberta-large"
    """Hugging Face name or local folder of an encoder with its tokenizer, of a kind in vadv/models/students/ (BERT, RoBERTa,
    XLM-RoBERTa), or package:NAME/FOLDER for a folder inside an installed Python package."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """`random` (seeded) needs nothing but a model name known to the project, e.g. roberta-large or tiny-roberta."""
    frozen: bool = False
    """Train the MLP only (section 5.6.2: this is much worse)."""
    hidden: int = 128
    """Hidden units of the MLP (Table 3)."""
    max_tokens: int = 100
    """Texts are cut after so many tokens (Table 3)."""
    dropout: float = 0.1
    """Probability of dropout on hidden states; the mask is a function of seed, step and sample, not of ranks."""


@dataclass(kw_only=True)
class Retrieval:
    """The EICS-style audio and visual students (Fig. 4); read by `task: retrieval` only, which has no text student."""

    sides: Literal["both", "visual", "audio"] = "both"
    """Students that the second step teaches (Table 8): "w/ video distillation" is `visual`."""
    hidden: int = 128
    """Hidden units of the students' three-layer MLPs (Table 3, Fig. 4)."""
    explicit: float = 1.0
    """Weight of the squared distance between a pair's audio and visual vector in the explicit space."""
    implicit: float = 1.0
    """Weight of the squared distance between each modality's vector in the implicit space and its class."""
    vector: Literal["logits", "probabilities"] = "logits"
    """What is compared by cosine similarity: the students' logits, or their softmax."""
    statistics_clips: int = 4096
    """Training clips, evenly spread, from which the mean and the deviation of the input features are taken."""

    def __post_init__(self) -> None:
        _require(self.hidden >= 1, "retrieval.hidden", self.hidden, "at least 1")
        _require(self.explicit >= 0, "retrieval.explicit", self.explicit, "0 or more")
        _require(self.implicit >= 0, "retrieval.implicit", self.implicit, "0 or more")
        _require(self.statistics_clips >= 2, "retrieval.statistics_clips", self.statistics_clips, "at least 2")


@dataclass(kw_only=True)
class Objective:
    """The joint loss, eq. 15, and the distillers it is compared with (Tables 10 and 11)."""

    variant: str = "step"
    """How the teacher's knowledge reaches the student: a file of vadv/objectives/distillers/, named with hyphens. `step` is
    the paper's; `none` removes both steps."""
    alpha: float = 1.0
    """Weight of MSE(video logit, label), eq. 10."""
    beta: float = 10.0
    """Weight of MSE(text logit, label), eq. 11."""
    gamma: float = 1.0
    """Weight of the prompts' cross entropy, eq. 12."""
    delta: float = 10.0
    """Weight of the first step, prompt logit to video logit, eq. 13."""
    psi: float = 1.0
    """Weight of the second step, video logit to text logit, eq. 14, or of the distiller in its place."""
    detach_teacher: bool = False
    """Stop the gradient of the second step at the video logit."""
    temperature: float = 4.0
    """KD's temperature."""
    crd_negatives: int = 16384
    """CRD: negatives per sample; capped below the number of training clips."""

    def __post_init__(self) -> None:
        parts.check(DISTILLERS, self.variant, "objective.variant")


@dataclass(kw_only=True)
class Train:
    """How long, how fast, and what is kept."""

    epochs: int = 100
    """Passes over the training split (Table 3)."""
    max_steps: int | None = None
    """Stop after so many optimizer steps in all, if that comes first. The schedule still spans `epochs`."""
    batch_size: int = 4
    """Clips per optimizer step over all ranks: world size x micro_batch_size x accumulation."""
    micro_batch_size: int | None = None
    """Clips per rank and forward pass; default: batch_size / world size, without accumulation."""
    lr: float = 8e-6
    """Peak learning rate of AdamW (Table 3)."""
    new_module_lr_factor: float = 1.0
    """Learning-rate factor for modules that start from random weights (X-CLIP uses 10)."""
    warmup_steps: int = 15
    """Optimizer steps of linear warm-up, then cosine to zero (Table 3)."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay, not applied to biases, norms and position embeddings."""
    clip_grad: float = 0.0
    """Bound on the gradient's global L2 norm; 0 leaves it unbounded."""
    evaluate_every: int = 1
    """Epochs between validations; the best student is kept by validation MAE."""
    checkpoint_every: int = 0
    """Optimizer steps between checkpoints; 0 saves at the end of each epoch."""
    keep_checkpoints: int = 2
    """Newest complete checkpoints that are kept."""
    skip_bad_steps: int = 0
    """Optimizer steps with a non-finite loss or gradient that are skipped and logged before the run stops."""
    stall_timeout: float = 600.0
    """Seconds without progress of any rank after which the run ends and names that rank."""

    def accumulation(self, world_size: int) -> int:
        """Forward passes per optimizer step on each rank.

        Raises:
            ValueError: batch_size is not world size x micro_batch_size x a whole number.
        """
        micro = self.micro_batch_size or max(1, self.batch_size // world_size)
        steps, rest = divmod(self.batch_size, world_size * micro)
        if rest or steps < 1:
            raise ValueError(
                f"train.batch_size: expected a multiple of world size x micro_batch_size = {world_size} x {micro} = "
                f"{world_size * micro}, found {self.batch_size}; change train.batch_size or train.micro_batch_size"
            )
        return steps

    def micro(self, world_size: int) -> int:
        """Clips per rank and forward pass."""
        return self.batch_size // (world_size * self.accumulation(world_size))

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "train.epochs", self.epochs, "at least 1")
        _require(self.max_steps is None or self.max_steps >= 1, "train.max_steps", self.max_steps, "at least 1")
        _require(self.batch_size >= 1, "train.batch_size", self.batch_size, "at least 1")
        _require(self.lr >= 0, "train.lr", self.lr, "0 or more")
        _require(self.evaluate_every >= 1, "train.evaluate_every", self.evaluate_every, "at least 1 epoch")
        _require(self.checkpoint_every >= 0, "train.checkpoint_every", self.checkpoint_every, "0 or more steps")
        _require(self.keep_checkpoints >= 1, "train.keep_checkpoints", self.keep_checkpoints, "at least 1")


@dataclass(kw_only=True)
class Log:
    """What is written down while training."""

    every: int = 10
    """Optimizer steps between lines of metrics.jsonl."""
    samples: bool = False
    """Write RUN/samples-RANK.jsonl: the sample ids of each step, in order."""


@dataclass(kw_only=True)
class Config:
    """A run of VideoAdviser."""

    seed: int = 1
    """Everything random in a run is a function of this number and the position in the data."""
    task: str = "sentiment"
    """What is learnt: a file of vadv/tasks/, named with hyphens."""
    data: Data = field(default_factory=Data)
    teacher: Teacher | None = field(default_factory=Teacher)
    """null trains the student alone: no teacher is built and no video decoded."""
    student: Student = field(default_factory=Student)
    retrieval: Retrieval = field(default_factory=Retrieval)
    objective: Objective = field(default_factory=Objective)
    train: Train = field(default_factory=Train)
    log: Log = field(default_factory=Log)
    deepspeed: str = "configs/deepspeed/zero1.json"
    """Path of a DeepSpeed JSON; batch sizes, clipping and the optimizer come from `train`."""

    def __post_init__(self) -> None:
        parts.check(TASKS, self.task, "task")
        cached = self.teacher is not None and self.teacher.cache_features
        _require(
            not cached or self.data.views >= 1,
            "data.views",
            self.data.views,
            "a number of views, 1 or more, with teacher.cache_features: frames drawn afresh are never met again",
        )


def _require(ok: bool, key: str, found: object, expected: str) -> None:
    if not ok:
        raise ValueError(f"{key}: expected {expected}, found {found}")
