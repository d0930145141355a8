"""Configuration files and overrides: what is read equals what was written, and mistakes get one helpful line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vadv.config_file import dump, load, parse, parser


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str) -> Path:
        path = tmp_path / "x.yaml"
        path.write_text(text)
        return path

    return _write


def test_a_dumped_configuration_loads_to_an_equal_one(write):
    for overrides in ({"teacher.face": False, "data.shards": ["a", "b"]}, {"teacher": None}, {"train.lr": 3e-5}):
        config = load(None, overrides)
        assert load(write(dump(config))) == config


def test_overrides_change_what_they_name_and_keep_the_rest_of_the_file(write):
    path = write("teacher: {face: false}\ntrain: {lr: 1e-5}\n")
    config = load(path, ["teacher.cct.layers=3", "seed=7"])
    assert (config.teacher.face, config.teacher.cct.layers, config.seed, config.train.lr) == (False, 3, 7, 1e-5)
    assert load(write("teacher: null\n"), {"teacher.face": False}).teacher.face is False


def test_options_override_the_file_wherever_config_stands(write):
    path = write("train: {lr: 1e-5}\nteacher: null\n")
    for argv in (["--train.lr", "1", "--config", str(path)], [f"--config={path}", "--train.lr=1"]):
        made = parser()
        made.add_argument("--run")
        config, options = parse(made, [*argv, "--run", "r"])
        assert (config.train.lr, config.teacher, options.run) == (1.0, None, "r")


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.lrr=3", "unknown setting train.lrr; did you mean train.lr?"),
        ("lr=3", "unknown setting lr; did you mean train.lr?"),
        ("train.epochs=0", "train.epochs: expected at least 1, found 0"),
        ("train.epochs=2.5", "train.epochs: expected a whole number, found 2.5"),
        ("teacher.prompting=true", "teacher.prompting: expected paper, xclip or false, found true"),
        ("teacher.trainable_blocks=x", "teacher.trainable_blocks: expected a whole number, found x"),
        (
            "objective.variant=kdd",
            "objective.variant: expected one of crd, fitnet, kd, none, pkt, step, step-without-first, found kdd; "
            "did you mean kd?",
        ),
        ("task=sentimant", "task: expected one of retrieval, sentiment, found sentimant; did you mean sentiment?"),
        ("train=3", "train: expected a section of settings, found 3"),
    ],
)
def test_a_mistake_gets_one_line_that_names_the_key(override, message, write):
    with pytest.raises(ValueError) as caught:
        load(None, [override])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError) as caught:
        key, _, value = override.partition("=")
        if "." in key:
            section, name = key.split(".")
            path = write(f"{section}:\n  {name}: {value}\n")
        else:
            path = write(f"{key}: {value}\n")
        load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_an_unknown_option_names_the_nearest_one():
    made = parser()
    made.add_argument("--run")
    for word, near in (("--runn", "run"), ("--train.lrr", "train.lr")):
        with pytest.raises(ValueError, match=f"unknown option {word}; did you mean {near}"):
            parse(made, [word, "1"])


def test_a_missing_file_names_the_nearest_one(write):
    path = write("seed: 1\n")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*x\.yaml"):
        load(path.with_name("xx.yaml"))


def test_nothing_heavy_is_imported():
    code = "import sys, vadv.config_file; assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
