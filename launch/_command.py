"""What every command shares: its exit codes, one line in place of a traceback for a user's mistake, the layout of --help.

docs/commands.md says the same to users.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from vadv.spelling import did_you_mean

FINE = 0
"""All well."""
NOT_FINE = 1
"""The command worked; what it checked is not fine."""
WRONG_USE = 2
"""Wrong options, configuration or input."""
STOPPED = 3
"""A run stopped by itself: non-finite loss, too many bad clips, a stalled rank."""
PREEMPTED = 75
"""Stopped by a signal after a complete save; the same command with --resume auto continues."""
INTERRUPTED = 130
"""Ctrl-C."""

WIDEST = 100
"""Columns of help on a wide terminal."""


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and leave the process with its exit code.

    ValueError and OSError are mistakes of input by the project's convention: their message is the one line shown.
    Set VADV_TRACEBACK=1 to see where they were raised.
    """
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # where there is no network, it would tell of every retry
    try:
        code = main() or FINE
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left (`| head`): not an error. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FINE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except (ValueError, OSError) as error:
        if os.environ.get("VADV_TRACEBACK"):
            raise
        print(f"{Path(sys.argv[0]).name}: {' '.join(in_one_line(error).split())}", file=sys.stderr)
        code = WRONG_USE
    sys.exit(code)


def in_one_line(error: Exception) -> str:
    """The message of a mistake; what the operating system says is put as the project puts it."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    path = Path(os.fsdecode(error.filename))
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        file = next((place for place in (path, *path.parents) if place.is_file()), path)
        return f"{file}: expected a folder, found a file"
    said = {
        errno.ENOENT: "expected a file or folder, found none",
        errno.EACCES: "expected a place that you may read and write, found one that you may not",
        errno.EPERM: "expected a place that you may read and write, found one that you may not",
        errno.EISDIR: "expected a file, found a folder",
        errno.EROFS: "expected a place that can be written, found a read-only file system",
        errno.ENAMETOOLONG: "expected a shorter name, found one that the file system does not take",
        errno.ENOSPC: "expected room on the disk, found none; make room and start again",
    }
    return f"{path}: {said.get(error.errno or 0, error.strerror or error)}"


class Layout(argparse.HelpFormatter):
    """Help of one look: paragraphs fit the terminal, examples stay, options are sentences with their default."""

    def __init__(self, prog: str, *more: Any, **options: Any) -> None:
        width = min(shutil.get_terminal_size().columns, WIDEST)
        super().__init__(prog, max_help_position=min(30, width // 3), width=width)

    def add_argument(self, action: argparse.Action) -> None:
        """Without jsonargparse's options that read one section from a file: `--config` is the one way."""
        if type(action).__name__ != "_ActionConfigLoad":
            super().add_argument(action)

    def start_section(self, heading: str | None) -> None:
        """A heading is wrapped, too."""
        super().start_section(textwrap.fill(heading, self._width - 1) if heading else heading)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs are wrapped; lines that are indented or follow each other as a list are kept."""
        blocks = []
        for block in textwrap.dedent(text).strip().split("\n\n"):
            wrap = not any(line.startswith(" ") for line in block.splitlines())
            blocks.append(textwrap.fill(" ".join(block.split()), width) if wrap else block)
        return textwrap.indent("\n\n".join(blocks), indent) + "\n"

    def _get_help_string(self, action: argparse.Action) -> str:
        text, brackets, default = (action.help or "").strip().partition(" (default: ")
        default = f"{brackets}{default}" or self._default(action, text)
        text = text.rstrip(".")
        if re.match(r"(?!null)[a-z]+('s|')?([ ,;]|$)", text):
            text = text[0].upper() + text[1:]
        return f"{text}{default}."

    def _default(self, action: argparse.Action, text: str) -> str:
        """` (default: 3)`, unless there is none, or the text speaks of it."""
        value = action.default
        nullable = type(None) in typing.get_args(getattr(action, "_typehint", None))
        unsaid = value is argparse.SUPPRESS or action.nargs == 0 or action.required or isinstance(value, dict)
        if unsaid or "default:" in text or (value is None and not nullable) or hasattr(value, "as_dict"):
            return ""
        if not action.option_strings and action.nargs != argparse.OPTIONAL:
            return ""
        if value is None or isinstance(value, bool):
            value = {None: "null", True: "true", False: "false"}[value]
        elif isinstance(value, float):
            value = f"{value:g}"
        shown = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        return f" (default: {shown})".replace("%", "%%") if shown else ""

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        kind = str(getattr(action, "_typehint", action.type))
        if kind.startswith("list"):
            return "LIST"
        names = {"int": "N", "float": "NUMBER", "Path": "PATH", "str": "TEXT"}
        return next((shown for part, shown in names.items() if part in kind), action.dest.rpartition(".")[2].upper())

    def _format_action_invocation(self, action: argparse.Action) -> str:
        # jsonargparse also has `--key+ VALUE`, which appends to a list.
        return re.sub(r", --[\w.]+\+ \S+", "", super()._format_action_invocation(action)).rstrip()


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line: what was expected, what was found."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", Layout)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise what `run` shows."""
        message = message.removeprefix("argument ")
        if found := re.fullmatch(r"the following arguments are required: (.*)", message):
            message = f"expected {found[1].replace(', ', ' and ')}, found none"
        elif found := re.fullmatch(r"one of the arguments (.*) is required", message):
            message = f"expected one of {found[1].replace(' ', ', ')}, found none"
        elif found := re.fullmatch(r"(.*): not allowed with argument (.*)", message):
            message = f"expected {found[1]} or {found[2]}, found both"
        elif found := re.fullmatch(r"(.*): expected (one|at least one) argument", message):
            message = f"{found[1]}: expected {'a value' if found[2] == 'one' else 'values'} after it, found none"
        elif found := re.match(r"unrecognized arguments: (\S+)", message):
            word = found[1].partition("=")[0]
            kind = "option" if word.startswith("-") else "word"
            message = f"unknown {kind} {found[1]}{did_you_mean(word, self._names())}"
        raise ValueError(message if message.endswith("?") else f"{message}; {self.prog} --help tells more")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            found = f"expected one of {', '.join(choices)}, found {value}{did_you_mean(str(value), choices)}"
            raise argparse.ArgumentError(action, found)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        kind = {int: "a whole number", float: "a number"}.get(action.type)  # type: ignore[call-overload]
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError:
            if kind is None:
                raise
            raise argparse.ArgumentError(action, f"expected {kind}, found {arg_string!r}") from None

    def _names(self) -> Iterator[str]:
        """Options of this parser and its subcommands."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    yield from parser._names()


def option_of(name: str, kind: Any, text: str, default: Any) -> argparse.Action:
    """A setting as --help shows it. Those of the teacher, which may be null, jsonargparse shows on a page of its own."""
    choices = ["true", "false"] if kind is bool else None
    if typing.get_origin(kind) is typing.Literal:
        choices = list(typing.get_args(kind))
    return argparse._StoreAction(
        [f"--{name}"], name, type=kind, choices=choices, help=text.replace("%", "%%"), default=default
    )


def settings_parser(description: str | None) -> Any:
    """A parser that has, besides a command's own options, one for each setting of vadv/config.py."""
    from jsonargparse import DefaultHelpFormatter

    from vadv import config_file
    from vadv.config import Teacher

    class SettingsLayout(Layout, DefaultHelpFormatter):
        def format_help(self) -> str:
            if len(self._root_section.items) > 1:  # not for the usage line alone
                self.start_section("The CLIP-based video teacher, `--teacher null` for none")
                self.add_arguments(option_of(*setting) for setting in config_file.settings(Teacher, "teacher."))
                self.end_section()
            return super().format_help()

    usage = "%(prog)s [--config FILE] [OPTION ...]"
    made = config_file.parser(description, formatter_class=SettingsLayout, usage=usage)
    for action in made._actions:
        if "--config" in action.option_strings:
            action.metavar = "FILE"
        elif "--print_config" in action.option_strings:
            action.help, action.metavar = "print the configuration that results, and leave", ""
        elif "--teacher.help" in action.option_strings:
            action.help = argparse.SUPPRESS  # said below, in the same layout
    # The deepspeed launcher sets it; nobody reads it.
    made.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    return made
