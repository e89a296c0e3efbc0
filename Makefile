# Every target does its own set-up: a machine needs Python >= 3.11 and make, nothing else.
# .venv is made once and again only when pyproject.toml or constraints.txt change.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:
.PHONY: help demo test check static bench soak simulate format lint types pyright laws guarantees coverage clean

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
# -qq: errors only; what pip has to warn about is the machine's, not the reader's.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 $(BIN)/python -m pip install -qq --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest $(if $(CI),-p no:cacheprovider)
# Two beside each other: figures are asserted with slack or as ratios of one run, so they bear it. JOBS=0 for one process.
JOBS ?= 2
# worksteal: quick and slow tests lie in different folders, and whoever has run out of its own takes half of what is left.
WORKERS := $(if $(filter-out 0,$(JOBS)),-n $(JOBS) --dist worksteal)
ARGS ?=
ROOMS := src ipc agent_proc host api tests bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.stamp-demo ## the main job: misbehaving code, one session per case, and what happened to each
	@$(BIN)/procession demo $(ARGS)

test: static ## everything: format, lint, types, and every test (ARGS= for pytest, JOBS=0 for one after the other)
	$(PYTEST) $(WORKERS) $(ARGS)

check: static ## what needs no process, in under a minute: format, lint, types, laws, unit and simulation tests
	PROCESSION_CHECK=1 $(PYTEST) -q $(WORKERS) -m "not process and not slow" --ignore tests/process $(ARGS)

static: format-check lint types

bench: $(VENV)/.stamp-dev ## measure, beside a raw pipe and multiprocessing in the same run
	$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/.stamp-dev ## the guarantees with their full counts; takes long
	PROCESSION_SOAK=1 $(PYTEST) -m "guarantee or soak" -o timeout=3600 -o faulthandler_timeout=3700 $(ARGS)

simulate: $(VENV)/.stamp-dev ## play one seed of the simulation and tell its story (SEED=123), or many (SEED=0-2999)
	PYTHONPATH=tests $(BIN)/python -m helpers.simulation $(SEED)

coverage: $(VENV)/.stamp-dev ## the tests under coverage; one name for each file
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

format: $(VENV)/.stamp-dev ## write every file in the one format
	$(BIN)/ruff format $(ROOMS)
	$(BIN)/ruff check --fix $(ROOMS)

.PHONY: format-check
format-check: $(VENV)/.stamp-dev
	$(BIN)/ruff format --check --quiet $(ROOMS)

lint: $(VENV)/.stamp-dev ## ruff
	$(BIN)/ruff check --quiet $(ROOMS)

types: $(VENV)/.stamp-dev ## mypy --strict, of the package and of the tests
	$(BIN)/mypy -p procession
	$(BIN)/mypy tests

pyright: $(VENV)/.stamp-dev ## pyright --strict, of the public faces alone; it brings its own node
	$(BIN)/pyright

laws: $(VENV)/.stamp-dev ## the laws alone: imports, no loading, public names, guarantees, habits, what is shipped
	$(PYTEST) -q tests/laws $(ARGS)

guarantees: $(VENV)/.stamp-dev ## write docs/guarantees.md from its rows and the tests' marks
	PYTHONPATH=tests $(BIN)/python -m helpers.guarantees

clean: ## remove .venv and everything built
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find $(ROOMS) -name __pycache__ -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------- set-up

$(VENV)/.stamp-core: pyproject.toml constraints.txt
	@if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  fitting=; lacking=; \
	  for candidate in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	    "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    if "$$candidate" -c 'import venv, ensurepip' 2>/dev/null; then fitting=$$candidate; break; fi; \
	    lacking=$$candidate; \
	  done; \
	  if [ -z "$$fitting" ] && [ -n "$$lacking" ]; then \
	    echo "$$lacking cannot make a virtual environment (no ensurepip): install its venv package, on Debian and" >&2; \
	    echo "Ubuntu python3-venv, or name another interpreter: make PYTHON=/path/to/python3" >&2; exit 1; \
	  elif [ -z "$$fitting" ]; then \
	    echo "no Python >= 3.11 found: install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	  fi; \
	  echo "setting up $(VENV) with $$fitting (once, about a minute)..."; \
	  rm -rf $(VENV) && "$$fitting" -m venv $(VENV); \
	else echo "bringing $(VENV) up to date..."; fi
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-core
	@$(PIP) --no-build-isolation --editable '.[demo]'
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-demo
	@echo "adding the tools for testing to $(VENV) (once)..."
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@
