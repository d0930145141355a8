"""Encoders of the student: from a Hugging Face name or folder or from a seed, and back into stock classifiers."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vadv import config, parts
from vadv.models.seeding import seeded
from vadv.models.students import Kind

KINDS = "vadv.models.students"
"""Where the kinds of encoder are, a file each."""

PACKAGE = "package:"
"""Prefix of a model folder inside an installed Python package: package:NAME/FOLDER."""


def located(model: str) -> str:
    """A Hugging Face name or folder as transformers takes it; `package:NAME/FOLDER` is found where it is installed.

    Raises:
        ValueError: no such package.
    """
    if not model.startswith(PACKAGE):
        return model
    name, _, folder = model.removeprefix(PACKAGE).partition("/")
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"student.model: expected an installed package {name}, found none; `make env` installs it")
    return str(Path(next(iter(found.submodule_search_locations))) / folder)


def load(settings: config.Student, seed: int) -> tuple[nn.Module, Any]:
    """The encoder without pooling layer, and its tokenizer.

    Raises:
        ValueError: nothing of that name, or of an unsupported kind.
    """
    if settings.weights == "random":
        model_config, tokenizer = _sizes(settings.model)
        with seeded(seed, "student.encoder"):
            return _from_config(model_config), tokenizer
    from transformers import AutoModel, AutoTokenizer

    model = located(settings.model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        model_config = _checked(model)
        with seeded(seed, "student.encoder"), quiet():
            encoder, report = AutoModel.from_pretrained(
                model,
                config=model_config,
                **kind_of(model_config).options,
                attn_implementation="sdpa",
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, KeyError, ImportError, SafetensorError) as error:
        cause = " ".join(str(error).split())[:160]
        raise ValueError(
            f"student.model: cannot load {settings.model} ({cause}); expected a Hugging Face name or a folder with "
            "config.json, model.safetensors and the tokenizer, or set student.weights=random"
        ) from error
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random weights in their place.
        raise ValueError(
            f"student.model: the weights of {settings.model} lack {len(missing)} of the encoder's, first {missing[0]}; "
            "give a whole checkpoint, or set student.weights=random"
        )
    tokenizer.padding_side = "right"  # the logit is read at the first token
    return encoder, tokenizer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars, and its report of the pooling layer that is left out on purpose."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    bar = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()


def _from_config(model_config: Any) -> nn.Module:
    from transformers import AutoModel

    options = kind_of(model_config).options
    return AutoModel.from_config(model_config, **options, attn_implementation="sdpa", dtype=torch.float32)


def _checked(model: str) -> Any:
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(model)
    known = parts.names(KINDS)
    if found.model_type not in known:
        raise ValueError(
            f"student.model: expected one of {', '.join(known)} (their stock classifiers hold the MLP exactly), "
            f"found {found.model_type} in {model}"
        )
    return found


def _sizes(model: str) -> tuple[Any, Any]:
    """Configuration and tokenizer for random weights: of a name known here, else as the folder or the hub has them."""
    from transformers import AutoConfig, AutoTokenizer

    known = {name: (kind, sizes) for kind in parts.names(KINDS) for name, sizes in _kind(kind).sizes.items()}
    if model not in known or (Path(model) / "config.json").is_file():
        try:
            return _checked(located(model)), AutoTokenizer.from_pretrained(located(model))
        except OSError as error:
            raise ValueError(
                f"student.model: with student.weights=random expected a local folder or one of {', '.join(known)}, "
                f"found {model}"
            ) from error
    kind, sizes = known[model]
    found = AutoConfig.for_model(kind, **sizes)
    return found, byte_tokenizer(kind, longest(found))


def _kind(model_type: str) -> Kind:
    kind: Kind = parts.load(KINDS, model_type).KIND
    return kind


def kind_of(encoder_config: Any) -> Kind:
    """What is known of an encoder's kind."""
    return _kind(encoder_config.model_type)


def longest(encoder_config: Any) -> int:
    """Tokens that an encoder can take."""
    return encoder_config.max_position_embeddings - kind_of(encoder_config).first_position(encoder_config)


def byte_tokenizer(kind: str, limit: int) -> Any:
    """A tokenizer that needs no vocabulary file: one token per byte of UTF-8, with the kind's special tokens.

    Random weights go with it; a checkpoint brings its own.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = _kind(kind).special
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special.values(), *letters])}
    start, end = special["cls"], special["sep"]
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=special["unk"]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B {end}",
        special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token=start,
        eos_token=end,
        **{f"{role}_token": token for role, token in special.items()},
        model_max_length=limit,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def empty_stock(encoder_config: Any, attention_dropout: float) -> Any:
    """A stock classifier of the encoder's kind with one regression output, on the meta device."""
    import copy

    from transformers import AutoModelForSequenceClassification

    stock_config = copy.deepcopy(encoder_config)
    stock_config.attention_probs_dropout_prob = attention_dropout
    stock_config.num_labels = 1
    stock_config.problem_type = "regression"
    stock_config.id2label, stock_config.label2id = {0: "sentiment"}, {"sentiment": 0}
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(stock_config, dtype=torch.float32)


def stock_head(
    kind: Kind, width: int, hidden_w: Tensor, hidden_b: Tensor, out_w: Tensor, out_b: Tensor
) -> dict[str, Tensor]:
    """The MLP W → h → 1 as weights of the kind's stock head W → W → 1; units past h are zero, as is their activation."""
    units = len(hidden_b)
    dense_w, dense_b, last_w = torch.zeros(width, width), torch.zeros(width), torch.zeros(1, width)
    dense_w[:units], dense_b[:units], last_w[:, :units] = hidden_w, hidden_b, out_w
    dense, last = kind.head
    return {
        f"{dense}.weight": dense_w,
        f"{dense}.bias": dense_b,
        f"{last}.weight": last_w,
        f"{last}.bias": out_b.clone(),
    }
