# make run   set up a fresh clone and run the main job
# make test  set up and run every check
# make honesty  what the gate does with noise, with a known edge and with planted leaks: docs/honesty.md
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test lint bench honesty up setup
.DEFAULT_GOAL := run

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "bellwether needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": run make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked packages (about three minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

setup: $(STAMP)

run: setup
	@$(BIN)/bellwether run

up: setup
	@$(BIN)/bellwether up

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: setup
	@for name in features models serving service_faults serving_soak; do $(BIN)/python -m benchmarks.$$name || exit 1; done

honesty: setup
	@$(BIN)/python -m benchmarks.honesty
