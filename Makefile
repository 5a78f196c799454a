# One door: `make` prints the verbs. Needs Python >= 3.11, git and make, nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Sets and float sums must come out the same in every run.
export PYTHONHASHSEED := 0
export OPENBLAS_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

V := .venv/bin
# An interpreter that runs, is new enough and can make an environment with pip in it: one of the
# versions that CI tries if there is one, else a newer one.
# `make PYTHON=/path/to/python setup` names another.
PYTHON ?= $(shell for newest in 13 99; do \
	for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, '$$newest'))' \
	>/dev/null 2>&1 && { echo $$p; exit; }; done; done)
# `INSTALL_WITH=uv make …` does the same in a tenth of the time; it reads no settings of pip's.
INSTALL = $(if $(filter uv,$(INSTALL_WITH)),uv pip install --python $(V)/python,$(V)/python -m pip install) --quiet
# Tests wait more than they work: four processes, each with a broker of its own, keep two cores busy.
FOUR = --numprocesses 4 --dist worksteal

help: ## these lines
	@echo "Headrace: make VERB, where VERB is one of"
	@sed -nE 's/^([a-z-]+):.* ## (.*)/  \1\t\2/p' Makefile | grep -v '^  help' | expand -t 14

setup: .venv/.dev ## an environment in .venv with all that tests need, pinned by hash

demo: .venv/.demo ## the main job: three agents on real events, live on the screen
	$(V)/headrace demo

up: .venv/.demo ## a service on an embedded broker, until Ctrl-C
	$(V)/headrace up

test: lint types ## what CI runs: lint, types, imports, then every test
	$(V)/python -m pytest $(FOUR)

test-kafka: .venv/.dev ## what needs a broker, once more on Apache Kafka (no Java needed)
	$(V)/python -m pytest $(FOUR) --broker local --ignore-glob "*/test_*protections.py" \
		tests/service tests/pipelines tests/crash # that campaigns can fail is seen once

crash: .venv/.dev ## kill -9 between all steps of a flush, on both brokers, compared with the fold
	$(V)/python -m tests.crash

simulate: .venv/.dev ## a thousand worlds of crashes in virtual time; SEED=n lives through one
	$(V)/python -m tests.simulation $(SEED)

faults: .venv/.dev ## a kill and disk errors at every system call, 10,000 damaged repositories
	$(V)/python -m tests.faults

hostile: .venv/.dev ## a hostile afternoon: 100,000 bad events, 12,000 bad requests, 20,000 bad specs
	$(V)/python -m tests.hostile.afternoon

quality: .venv/.dev ## the quality gates, through the whole service
	$(V)/python -m benchmarks.quality

bench: .venv/.dev ## how quick it is, beside River alone, with what must be reached
	$(V)/python -m benchmarks.bench

soak: .venv/.dev ## ten minutes at half the top rate: nothing may grow; SECONDS=n takes less
	$(V)/python -m benchmarks.soak $(SECONDS)

lint: .venv/.dev # a step of `make test`: style, format and who may import whom
	$(V)/ruff check .
	$(V)/ruff format --check .
	$(V)/lint-imports --no-cache

types: .venv/.dev # a step of `make test`: mypy --strict over rooms and tests
	$(V)/mypy -p headrace -p tests
	$(V)/mypy benchmarks

regen: .venv/.dev # for developers: what is made from other files: gRPC stubs, requirements/*.txt
	$(V)/python -m headrace.serving.stubs
	requirements/compile.sh

clean: ## remove all that was made here, .venv too
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache benchmarks/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- what the verbs stand on ------------------------------------------------------------------

.venv/bin/python:
ifeq ($(PYTHON),)
	@echo "Headrace needs Python 3.11 or newer with venv and pip, and found none." >&2
	@echo "Install one (Debian, Ubuntu: apt install python3 python3-venv)," >&2
	@echo "or name one: make PYTHON=/path/to/python3.11 setup" >&2
	@exit 1
else
	$(PYTHON) -m venv .venv
endif

# A stamp says which set is in .venv; the development set contains the demo's.
.venv/.demo: requirements/demo.txt pyproject.toml | .venv/bin/python
	@echo "Installing Headrace into .venv (pinned, by hash) ..."
	$(INSTALL) --require-hashes --only-binary :all: -r requirements/demo.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements/dev.txt pyproject.toml | .venv/bin/python
	@echo "Installing Headrace and its tools into .venv (pinned, by hash) ..."
	$(INSTALL) --require-hashes --only-binary :all: -r requirements/dev.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch .venv/.demo $@

.PHONY: help setup demo up test test-kafka crash simulate faults hostile quality bench soak lint types regen clean
