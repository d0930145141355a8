"""Every configuration that is shipped loads, and fits a DeepSpeed preset."""

from __future__ import annotations

from pathlib import Path

import pytest

from vadv.config_file import dump, load
from vadv.training.engine import deepspeed_settings

CONFIGS = sorted(Path("configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_it_loads_and_survives_being_written_down(path: Path, tmp_path: Path) -> None:
    config = load(path)
    deepspeed_settings(config, world_size=2 if config.train.batch_size % 2 == 0 else 1)
    (tmp_path / "config.yaml").write_text(dump(config))
    assert load(tmp_path / "config.yaml") == config


def test_the_papers_hyperparameters_are_those_of_table_3() -> None:
    for name in ("mosi", "mosei", "mosi_mosei"):
        config = load(f"configs/{name}.yaml")
        assert config.teacher is not None
        assert (config.teacher.clip, config.student.model) == ("ViT-L-14-quickgelu", "roberta-large")
        assert (config.data.frames, config.data.frame_size, config.student.max_tokens) == (8, 224, 100)
        assert (config.train.lr, config.train.warmup_steps) == (8e-6, 15)
        assert (config.train.batch_size, config.train.epochs) == (4, 100)
        objective = config.objective
        weights = (objective.alpha, objective.beta, objective.gamma, objective.delta, objective.psi)
        assert weights == (1, 10, 1, 10, 1) and config.student.hidden == config.teacher.hidden == 128
