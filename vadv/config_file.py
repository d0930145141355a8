"""From YAML files, dotted overrides and command lines to a `Config`, and back. One line for each mistake.

load("configs/mosi.yaml", {"train.lr": 1e-5, "seed": 3})
load("configs/mosi.yaml", ["train.lr=1e-5", "seed=3"])
config, options = parse(parser("Train."), sys.argv[1:])      # options: what the command added to the parser
"""

from __future__ import annotations

import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from vadv import parts
from vadv.config import PARTS, Config
from vadv.spelling import did_you_mean

T = typing.TypeVar("T")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the numbers of 1.2: 1e-5 is a number and 24:00:00 a text, not 86400."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag not in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def load(path: str | Path | None, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Config:
    """Read a configuration file and change settings of it.

    Args:
        path: a YAML file; None starts from the defaults.
        overrides: values by dotted key, or texts `key=value`.

    Raises:
        ValueError: unknown key, or a value of the wrong type or range; names the file and the key.
        FileNotFoundError: no such file.
    """
    if not isinstance(overrides, Mapping):
        overrides = dict(_split(text) for text in overrides)
    settings = read(path) if path is not None else {}
    check_keys(overrides)
    for key, value in overrides.items():
        put(settings, key, value)
    return build(settings, where=f"{path}: " if path is not None else "")


def build(settings: Mapping[str, Any], where: str = "") -> Config:
    """A `Config` from nested settings; what is left out has its default.

    Args:
        settings: nested by section, as in a YAML file.
        where: put before the message of an error, such as the file's name.

    Raises:
        ValueError: unknown key, or a value of the wrong type or range.
    """
    return fill(Config, settings, where)


def fill(kind: type[T], settings: Mapping[str, Any], where: str = "") -> T:
    """`build` for any dataclass of typed settings."""
    check_keys(settings, where, kind)
    own = _bare_parser(typing.cast(Any, kind))
    try:
        filled = own.instantiate(own.parse_object(dict(settings)))
        return kind(**{field.name: filled[field.name] for field in fields(typing.cast(Any, kind)) if field.init})
    except Exception as error:
        raise ValueError(where + _explain(error, kind)) from None


@functools.cache
def _bare_parser(kind: Any) -> ArgumentParser:
    """Without options of a command line. Made once: a sweep checks thousands of configurations."""
    made = ArgumentParser(exit_on_error=False)
    made.add_class_arguments(kind)
    return made


def dump(config: Config) -> str:
    """The whole configuration as YAML text that `load` reads back to an equal `Config`."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True, width=120)


def read(path: str | Path) -> dict[str, Any]:
    """Nested settings of a YAML file, keys not yet checked.

    Raises:
        ValueError: not YAML, or not a mapping.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1, cutoff=0.4)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        if path.is_dir():
            raise FileNotFoundError(f"{path}: expected a configuration file, found a folder")
        raise FileNotFoundError(f"{path}: no such configuration file{hint}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{path}: {line}expected YAML, {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError(f"{path}: expected YAML, found a file that is no text") from None
    if content is None:
        raise ValueError(f"{path}: expected settings, found none; an empty file is no configuration")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping of settings, found {type(content).__name__}")
    return content


def parser(description: str | None = None, **options: Any) -> ArgumentParser:
    """A command-line parser with `--config` and a typed, documented option for each setting of `Config`.

    A command adds its own options to it and hands it to `parse`.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    made = ArgumentParser(description=description, exit_on_error=False, **options)
    made.add_argument(
        "--config", action="config", help="YAML file of settings; options of the command line go before it"
    )
    made.add_class_arguments(Config)
    for action in made._actions:
        if action.dest in PARTS:  # the type alone would say: a text
            action.help = f"{action.help} {allowed(action.dest, str).capitalize()}."
    return made


def parse(made: ArgumentParser, argv: Sequence[str]) -> tuple[Config, Namespace]:
    """Parse a command line with a parser of `parser`, wherever `--config` stands in it.

    Returns:
        The configuration, and the other options that the command had added.

    Raises:
        ValueError: unknown option or key, or a value of the wrong type or range.
        FileNotFoundError: no such configuration file.
    """
    files, rest = _config_options(argv)
    for path in files:
        check_keys(read(path), f"{path}: ")
    try:
        parsed = made.parse_args([*(f"--config={path}" for path in files), *rest])
        filled = made.instantiate(parsed)
    except Exception as error:
        options = [option.lstrip("-") for action in made._actions for option in action.option_strings]
        raise ValueError(_explain(error, Config, options)) from None
    names = {field.name for field in fields(Config)}
    config = Config(**{name: filled[name] for name in names})
    return config, Namespace(**{k: v for k, v in vars(filled).items() if k not in names and k != "config"})


def put(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested settings; a section that was null becomes one of defaults."""
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(settings.get(section), dict):
            settings[section] = {}
        settings = settings[section]
    settings[last] = value


def keys(kind: type = Config) -> dict[str, Any]:
    """Type by dotted key, of every setting and every section."""
    return dict(_walk(kind))


def describe(kind: type) -> list[tuple[str, str, Any]]:
    """Name, documentation and default of each field of a dataclass of settings."""
    import docstring_parser

    texts = {p.arg_name: p.description or "" for p in docstring_parser.parse_from_object(kind).params}
    defaults = asdict(kind())
    return [(name, " ".join(texts.get(name, "").split()), default) for name, default in defaults.items()]


def settings(kind: type, prefix: str = "") -> Iterator[tuple[str, Any, str, Any]]:
    """Dotted name, type, documentation and default of each setting of a section and the sections in it."""
    hints = _hints(kind)
    for name, text, default in describe(kind):
        if is_dataclass(hints[name]):
            yield from settings(typing.cast(type, hints[name]), f"{prefix}{name}.")
        else:
            yield prefix + name, hints[name], text, default


def check_keys(settings: Mapping[str, Any], where: str = "", kind: type = Config) -> None:
    """Refuse keys, nested or dotted, that `Config` (or another dataclass of settings) lacks.

    Raises:
        ValueError: names the unknown key and the nearest known one.
    """
    known = keys(kind)
    for key, value in _flat(settings, known):
        if key not in known:
            raise ValueError(f"{where}unknown setting {key}{did_you_mean(key, known)}")
        if is_dataclass(known[key]) and not isinstance(value, Mapping):
            raise ValueError(f"{where}{key}: expected a section of settings, found {value}")
        if value is None and type(None) not in typing.get_args(known[key]):
            raise ValueError(f"{where}{key}: expected {allowed(key, known[key])}, found nothing (null)")


def _walk(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    hints = _hints(cls)
    for name, kind in ((field.name, hints[field.name]) for field in fields(typing.cast(Any, cls)) if field.init):
        yield prefix + name, kind
        for part in (kind, *typing.get_args(kind)):
            if is_dataclass(part):
                yield from _walk(typing.cast(type, part), f"{prefix}{name}.")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _flat(settings: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and _is_section(known.get(key)):
            yield key, {}
            yield from _flat(value, known, f"{key}.")
        else:
            yield key, value


def _is_section(kind: Any) -> bool:
    return is_dataclass(kind) or any(is_dataclass(part) for part in typing.get_args(kind))


def _split(text: str) -> tuple[str, str]:
    key, equals, value = text.removeprefix("--").partition("=")
    if not equals:
        raise ValueError(f"{text}: expected key=value")
    return key, value


def _config_options(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take `--config FILE` out of a command line, so that options before it override the file as those after it do."""
    files: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--config":
            file = next(words, None)
            if file is None or file.startswith("--"):
                raise ValueError("--config: expected a YAML file after it")
            files.append(file)
        elif word.startswith("--config="):
            files.append(word.partition("=")[2])
        else:
            rest.append(word)
    return files, rest


def allowed(key: str, kind: Any) -> str:
    """What a setting takes, in words: the parts that there are, or its type."""
    return f"one of {', '.join(parts.names(PARTS[key]))}" if key in PARTS else in_words(kind)


def in_words(kind: Any) -> str:
    """A type in words: `a whole number`, `one of a, b, c`."""
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(kind))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(in_words(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return "a list"
    if typing.get_origin(kind) is dict:
        return "a mapping"
    if is_dataclass(kind):
        return "a section of settings"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _explain(error: Exception, kind: type, options: Iterable[str] = ()) -> str:
    """jsonargparse's report, several indented lines, as one line with our words.

    Args:
        kind: the dataclass that was being filled.
        options: names of further command-line options, to suggest one of them.
    """
    text = str(error)
    ours = re.search(r"^\s*- ([\w.]+: expected .*, found .*)", text, re.MULTILINE)
    if ours:
        return ours[1]
    unknown = re.search(r"[Uu]nrecognized arguments: (.*)", text)
    if unknown:
        word = unknown[1].split()[0]
        key = word.removeprefix("--").partition("=")[0]
        if not word.startswith("-"):
            return f"expected options such as --{next(iter(keys(kind)))} VALUE, found {word}"
        return f"unknown option {word}{did_you_mean(key, [*keys(kind), *options])}"
    key = ".".join(re.findall(r'Parser key "([^"]+)"', text))
    found = re.findall(r"(?:Got|Given) value: (.*)", text)
    if key in keys(kind) and found:
        return f"{key}: expected {allowed(key, keys(kind)[key])}, found {found[0]}"
    if number := re.search(r"Expected a <class '(int|float)'>", text):
        wanted = in_words({"int": int, "float": float}[number[1]])
        return f"--{key.replace('_', '-')}: expected {wanted}, found {found[0]}"
    if bare := re.search(r"argument (--[\w.-]+): expected one argument", text):
        return f"{bare[1]}: expected a value after it, found none"
    return " ".join(text.split())
