# yolodeploy: `make help` lists the targets.

PYTHON ?= python3
TARGET ?=
ARGS   ?=

VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
INPUTS := pyproject.toml constraints.txt
# Where another interpreter is asked for on the command line, it gets an environment of its own.
OTHER   = $(VENV)$(if $(filter command,$(word 1,$(origin PYTHON))),-$(notdir $(PYTHON)))
NAMES   = $(patsubst recipes/%.yaml,%,$(wildcard recipes/*.yaml))

.DEFAULT_GOAL := help
.PHONY: help setup dev deploy reproduce reproduce-here lint type test test-here bench schema docs clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18
	@echo
	@echo "  TARGET: $(NAMES)"
	@echo "  PYTHON=python3.12 chooses the interpreter, ARGS='--locked -v' goes to yolodeploy"

setup: $(VENV)/.setup ## Make .venv and install yolodeploy with all backends

dev: $(VENV)/.dev ## The same, with what tests and benchmarks need

deploy: $(if $(filter $(TARGET),$(NAMES)),$(VENV)/.setup) ## Build, measure, check and bundle: make deploy TARGET=ios
ifeq ($(filter $(TARGET),$(NAMES)),)
	@echo "make deploy: $(if $(TARGET),there is no recipes/$(TARGET).yaml,say which recipe)." >&2
	@echo "Choose one of: $(NAMES). For example: make deploy TARGET=$(firstword $(NAMES))" >&2
	@exit 2
else
	@$(BIN)/yolodeploy deploy recipes/$(TARGET).yaml $(ARGS)
endif

reproduce: ## Build every recipe again elsewhere, compare with the locks; PYTHON=python3.12 for another one
	@$(MAKE) --no-print-directory reproduce-here VENV=$(OTHER)

reproduce-here: $(VENV)/.setup
	@$(BIN)/yolodeploy reproduce $(if $(TARGET),recipes/$(TARGET).yaml,$(sort $(wildcard recipes/*.yaml))) $(ARGS)

lint: $(VENV)/.dev ## Check style, formatting and the layers of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo --no-cache

type: $(VENV)/.dev ## Check types (strict)
	@$(BIN)/mypy

test: ## Run the whole suite; PYTHON=python3.13 for another interpreter
	@$(MAKE) --no-print-directory test-here VENV=$(OTHER)

test-here: $(VENV)/.dev
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

bench: $(VENV)/.dev ## Measure against what a user would run instead
	@$(BIN)/python -m bench $(ARGS)

schema: $(VENV)/.setup ## Write docs/recipe.schema.json again
	@$(BIN)/yolodeploy schema -o docs/recipe.schema.json

docs: $(VENV)/.dev ## Build the documentation as a site: open site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

clean: ## Remove .venv, dist, site and tool caches; the store stays (see `yolodeploy cache`)
	rm -rf $(VENV) $(VENV)-* dist site .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "yolodeploy needs Python 3.11 or newer; choose one with PYTHON=")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.setup: $(INPUTS) | $(VENV)/bin/python
	@echo "installing yolodeploy into $(VENV), which takes some minutes the first time ..." >&2
	@$(PIP) install --constraint constraints.txt --editable '.[all,reproduce]'
	@touch $@

$(VENV)/.dev: $(INPUTS) | $(VENV)/bin/python
	@echo "installing yolodeploy and the development tools into $(VENV) ..." >&2
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.setup
