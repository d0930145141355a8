"""Fixtures of the student's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_students import CORPUS, made


@pytest.fixture(scope="session")
def bert(session_folder: Path) -> Path:
    """A tiny BERT student."""
    return made("bert", session_folder)


@pytest.fixture(scope="session")
def roberta(session_folder: Path) -> Path:
    """A tiny RoBERTa student."""
    return made("roberta", session_folder)


@pytest.fixture(params=["bert", "roberta"])
def student(request: pytest.FixtureRequest, session_folder: Path) -> Path:
    """Each family in turn."""
    return made(request.param, session_folder)


@pytest.fixture(scope="session")
def mixed() -> list[str]:
    """Texts of many lengths, some longer than the student reads, in no order of length."""
    words = " ".join(CORPUS).split()
    return [" ".join(words[i % 7 : i % 7 + 1 + (i * 11) % 40]) + "!" * (i % 3) for i in range(150)]
