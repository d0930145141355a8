"""The CLIP-based video teacher, section 4.1: eqs. 2 to 8 in the order in which they are computed.

Shape legend: B clips, T frames, N patches of width W per frame, D the width that frames and prompts share, C prompts,
K outputs per logit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vadv import config
from vadv.models import clip_weights
from vadv.models.batch import Batch
from vadv.models.clip import FrozenFrames, TextTower, TrainableBlocks, unit
from vadv.models.cross_frame import CrossFrameTransformer
from vadv.models.mlp import FusionMLP, LogitMLP
from vadv.models.multi_frame import MultiFrameTransformer
from vadv.models.outputs import Output, TeacherOutput
from vadv.models.prompting import PatchContext, VideoSpecificPrompting
from vadv.models.seeding import seeded
from vadv.models.transformer import init_linear

log = logging.getLogger(__name__)

FACE_FRAMES, FACE_WIDTH = 64, 8
"""Face crops of a clip and expression scores of each (section 4.1)."""


class FaceBranch(nn.Module):
    """V^(f) of eq. 4: expression scores brought from 8 channels to D, then MIT and the mean over faces."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(FACE_WIDTH, width)
        self.mit = MultiFrameTransformer(width, FACE_FRAMES, layers)

    def forward(self, faces: Tensor, mask: Tensor) -> Tensor:
        """(B, 64, 8) scores and (B, 64) bool, True where there was a face → (B, D), zeros where there was none."""
        return self.mit(self.embed(faces.to(self.embed.weight.dtype)), mask)


class Teacher(nn.Module):
    """Frames, faces and prompts to the video logit, the prompt logit and the prompts' scores.

    `clip` (frozen tokens) and `tail` (CLIP's trained blocks) give eq. 2, `cct` and `mit` eq. 5, `face` eq. 4, `fuse`
    eq. 6, `context` and `prompting` eq. 7; eq. 8 is in `forward`. Prompts (eq. 3) are a buffer, encoded once, unless
    `text` is trained.
    """

    prompts: Tensor
    prompt_ids: Tensor

    def __init__(
        self, settings: config.Teacher, source: clip_weights.Source, *, seed: int, frames: int, outputs: int
    ) -> None:
        """Build from CLIP's layers; everything else starts from the seed, or from X-CLIP's weights where given.

        Args:
            settings: which parts there are.
            source: CLIP and what belongs to its weights; its layers become part of the teacher.
            seed: of the new modules' weights.
            frames: T, frames per clip.
            outputs: K, width of the logits.
        """
        super().__init__()
        g, clip, k = source.geometry, source.clip, settings.trainable_blocks
        if k > g.layers:
            raise ValueError(f"teacher.trainable_blocks: expected at most {g.layers}, CLIP's blocks, found {k}")
        self.geometry, self.frames = g, frames
        inside = settings.cct.placement == "inside"
        frozen = 0 if inside else g.layers - k

        self.clip = FrozenFrames(clip.embed, clip.blocks[:frozen], source.mean, source.std)
        self.tail = TrainableBlocks(clip.blocks[frozen:]) if k and not inside else None
        with seeded(seed, "teacher.cct"):
            base = list(clip.blocks) if inside else [None] * settings.cct.layers
            self.cct = CrossFrameTransformer(
                g.width, len(base), g.heads, g.hidden, quick_gelu=g.quick_gelu, base=base, checkpointing=inside
            )
            for module in self.cct.new_modules():
                module.apply(init_linear)
        if inside:
            clip.blocks[: g.layers - k].requires_grad_(False)
        self.head = clip.head.requires_grad_(k > 0)
        with seeded(seed, "teacher.mit"):
            self.mit = MultiFrameTransformer(g.embed, frames, settings.mit_layers)
            self.mit.apply(init_linear)
        self.face = None
        if settings.face:
            with seeded(seed, "teacher.face"):
                self.face = FaceBranch(g.embed, settings.mit_layers)
                self.face.apply(init_linear)
        with seeded(seed, "teacher.fuse"):
            self.fuse = FusionMLP(g.embed * (2 if settings.face else 1), settings.hidden, g.embed)

        self.text = clip.text if settings.trainable_text else None
        self._add_prompts(clip.text, settings)
        self.context = self.prompting = None
        if settings.prompting:
            assert settings.prompting != True  # noqa: E712 - refused by config.Teacher
            with seeded(seed, "teacher.prompting"):
                self.context = PatchContext(g.width, g.embed)
                self.prompting = VideoSpecificPrompting(g.embed, settings.prompting)
                self.prompting.apply(init_linear)
            # Patches start in the space that CLIP gives to whole frames, where the prompts live.
            self.context.load_state_dict(clip.head.state_dict())
        self.scale = source.scale if settings.prompting == "xclip" else None

        with seeded(seed, "teacher.video_logit"):
            self.video_logit = LogitMLP(g.embed, settings.hidden, outputs)
        with seeded(seed, "teacher.prompt_logit"):
            self.prompt_logit = LogitMLP(len(settings.classes), settings.hidden, outputs)

        self.unmatched = list(source.unmatched)
        self._take_extra(source.extra)

    def _add_prompts(self, text: TextTower, settings: config.Teacher) -> None:
        ids = tokenise([settings.prompt.format(name) for name in settings.classes], self.geometry.context)
        if self.text is not None:
            self.register_buffer("prompt_ids", ids, persistent=False)
            return
        with torch.no_grad():
            self.register_buffer("prompts", text(ids.to(text.position.device)), persistent=False)

    def _take_extra(self, extra: dict[str, Tensor]) -> None:
        """Load X-CLIP's own weights where the teacher has the module, and report the others."""
        own = dict(self.named_parameters())
        taken = {k: v for k, v in extra.items() if k in own and own[k].shape == v.shape}
        self.loaded_new = set(taken)
        self.load_state_dict(taken, strict=False)
        for key in sorted(set(extra) - set(taken)):
            why = f"expected shape {tuple(own[key].shape)}" if key in own else "no such module in this configuration"
            self.unmatched.append(f"{key} {tuple(extra[key].shape)}: {why}")
        for line in self.unmatched:
            log.warning("teacher.clip: unmatched weights: %s", line)

    def pretrained_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that CLIP has (whether its weights are real or random), or that an X-CLIP folder gave."""
        new = {id(p) for module in self.cct.new_modules() for p in module.parameters()}
        for name, parameter in self.named_parameters():
            of_clip = name.startswith(("clip.", "tail.", "head.", "text.", "cct.")) and id(parameter) not in new
            if of_clip or name in self.loaded_new:
                yield parameter

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.fuse.hidden.weight.dtype

    def forward(self, batch: Batch) -> TeacherOutput:
        """Watch the clips of a micro-batch.

        Takes `frames`, or `visual` in their place; `faces` with `face_mask`. A part that no clip of the micro-batch
        has is zero, so that every rank calls the same modules.
        """
        visual = self._visual(batch)
        if self.tail is not None:
            visual = self.tail(visual)
        tokens = self.cct(visual)
        video = self.mit(self.head(tokens[:, :, 0]))  # eq. 5
        if self.face is not None:
            faces, mask = self._faces(batch)
            video = torch.cat([self.face(faces, mask), video], dim=-1)
        representation = self.fuse(video)  # eq. 6
        video_logit, video_hidden = self.video_logit(representation)

        # An engine may cast weights but not buffers.
        prompts = self.text(self.prompt_ids) if self.text is not None else self.prompts.to(self.dtype)
        if self.prompting is not None and self.context is not None:
            enhanced = self.prompting(prompts, self.context(tokens))  # eq. 7
        else:
            enhanced = prompts.expand(len(tokens), *prompts.shape)
        if self.scale is None:
            similarity = torch.einsum("bcd,bd->bc", enhanced.float(), representation.float())
        else:
            similarity = self.scale * torch.einsum("bcd,bd->bc", unit(enhanced), unit(representation))
        scores = F.log_softmax(similarity, dim=-1)  # log of eq. 8
        prompt_logit, prompt_hidden = self.prompt_logit(scores.exp())
        return TeacherOutput(
            video=Output(logit=video_logit, hidden=video_hidden, representation=representation.float()),
            prompt=Output(logit=prompt_logit, hidden=prompt_hidden, representation=scores.exp()),
            scores=scores,
        )

    def _visual(self, batch: Batch) -> Tensor:
        if batch.visual is not None:
            return batch.visual.to(self.dtype)
        frames = batch.frames
        if frames is None:
            shape = (len(batch.weight), self.frames, 3, self.geometry.image, self.geometry.image)
            frames = torch.zeros(shape, dtype=torch.uint8, device=batch.weight.device)
        expected = (self.frames, 3, self.geometry.image, self.geometry.image)
        if frames.shape[1:] != expected:
            raise ValueError(f"frames: expected (B, T, 3, H, W) with {expected} after B, found {tuple(frames.shape)}")
        return self.clip.tokens(frames)

    def _faces(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if batch.faces is None:
            faces = torch.zeros(len(batch.weight), FACE_FRAMES, FACE_WIDTH, device=batch.weight.device)
            return faces, torch.zeros_like(faces[..., 0], dtype=torch.bool)
        mask = batch.face_mask if batch.face_mask is not None else batch.faces.ne(0).any(dim=-1)
        return batch.faces, mask


def tokenise(texts: list[str], context: int) -> Tensor:
    """Texts to CLIP's token ids, (C, L), cut to the longest: what follows the end-of-text token is never read."""
    from open_clip import tokenize

    with torch.device("cpu"):  # also while shapes alone are built, on the meta device
        ids = tokenize(texts, context_length=context)
        return ids[:, : int(ids.argmax(dim=1).max()) + 1].contiguous()


def build_teacher(
    settings: config.Teacher, seed: int, *, frames: int = 8, frame_size: int = 224, outputs: int = 1
) -> Teacher:
    """Build the teacher with its weights.

    Args:
        settings: `teacher` of the configuration.
        seed: decides all random weights, the same on every rank.
        frames: T, `data.frames`.
        frame_size: `data.frame_size`.
        outputs: K, width of the logits: 1 for a regression, else the number of classes.

    Raises:
        ValueError: CLIP's weights are not there, or the settings do not fit them.
    """
    source = clip_weights.load(settings, frame_size, seed)
    teacher = Teacher(settings, source, seed=seed, frames=frames, outputs=outputs)
    if settings.compile:
        teacher.clip.compile()
    return teacher
