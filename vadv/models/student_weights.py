"""Encoders of the student: from a Hugging Face name or folder or from a seed, and back into stock classifiers."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vadv import config
from vadv.models.seeding import seeded

ROBERTA = ("roberta", "xlm-roberta")
KINDS = (*ROBERTA, "bert")
"""Model types whose stock classifier is Linear → tanh → Linear on the first token, as the student's MLP."""

_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_TINY = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta-large": ("roberta", _ROBERTA | _LARGE),
    "roberta-base": ("roberta", _ROBERTA),
    "bert-base-uncased": ("bert", {}),
    "bert-base-cased": ("bert", {"vocab_size": 28996}),
    "bert-large-uncased": ("bert", _LARGE),
    "tiny-roberta": ("roberta", _ROBERTA | _TINY | {"vocab_size": 512}),
    "tiny-bert": ("bert", _TINY | {"vocab_size": 512}),
}
"""Sizes that are known without a download, for random weights and for counting parameters."""


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
                add_pooling_layer=False,
                attn_implementation="sdpa",
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, KeyError, ImportError) as error:
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

    return AutoModel.from_config(model_config, add_pooling_layer=False, attn_implementation="sdpa", dtype=torch.float32)


def _checked(model: str) -> Any:
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(model)
    if found.model_type not in KINDS:
        raise ValueError(
            f"student.model: expected one of {', '.join(KINDS)} (their stock classifiers hold the MLP exactly), "
            f"found {found.model_type} in {model}"
        )
    return found


def _sizes(model: str) -> tuple[Any, Any]:
    """Configuration and tokenizer for random weights: of a name known here, else as the folder or the hub has them."""
    from transformers import AutoTokenizer, BertConfig, RobertaConfig

    if model not in ARCHITECTURES or (Path(model) / "config.json").is_file():
        try:
            return _checked(located(model)), AutoTokenizer.from_pretrained(located(model))
        except OSError as error:
            raise ValueError(
                f"student.model: with student.weights=random expected a local folder or one of "
                f"{', '.join(ARCHITECTURES)}, found {model}"
            ) from error
    kind, sizes = ARCHITECTURES[model]
    if kind == "roberta":
        found: Any = RobertaConfig(**sizes, pad_token_id=1, bos_token_id=0, eos_token_id=2)
    else:
        found = BertConfig(**sizes)
    return found, byte_tokenizer(kind, longest(found))


def longest(encoder_config: Any) -> int:
    """Tokens that an encoder can take."""
    return encoder_config.max_position_embeddings - first_position(encoder_config)


def first_position(encoder_config: Any) -> int:
    """Position of a text's first token. RoBERTa counts from its padding id on."""
    return encoder_config.pad_token_id + 1 if encoder_config.model_type in ROBERTA else 0


def byte_tokenizer(kind: str, limit: int) -> Any:
    """A tokenizer that needs no vocabulary file: one token per byte of UTF-8, with the kind's special tokens.

    Random weights go with it; a checkpoint brings its own.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if kind == "roberta":
        start, pad, end, unknown, mask = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
        special = [start, pad, end, unknown, mask]
    else:
        start, pad, end, unknown, mask = "[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"
        special = [pad, unknown, start, end, mask]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *letters])}
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=unknown))
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
        cls_token=start,
        eos_token=end,
        sep_token=end,
        unk_token=unknown,
        pad_token=pad,
        mask_token=mask,
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
    kind: str, width: int, hidden_w: Tensor, hidden_b: Tensor, out_w: Tensor, out_b: Tensor
) -> dict[str, Tensor]:
    """The MLP W → h → 1 as weights of the kind's stock head W → W → 1; units past h are zero (tanh(0) = 0)."""
    units = len(hidden_b)
    dense_w, dense_b, last_w = torch.zeros(width, width), torch.zeros(width), torch.zeros(1, width)
    dense_w[:units], dense_b[:units], last_w[:, :units] = hidden_w, hidden_b, out_w
    if kind in ROBERTA:
        names = ("classifier.dense", "classifier.out_proj")
    else:
        names = ("bert.pooler.dense", "classifier")
    return {
        f"{names[0]}.weight": dense_w,
        f"{names[0]}.bias": dense_b,
        f"{names[1]}.weight": last_w,
        f"{names[1]}.bias": out_b.clone(),
    }
