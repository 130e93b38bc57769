# pageferry: `make demo` sets everything up and runs the main job, `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test check format proto proto-check bench clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(VENV)/ready ## make the virtual environment

demo: setup ## migrate the redis trace with groups of 1 and of 64, tables side by side
	$(BIN)/pageferry demo

test: setup ## the everyday tests
	$(BIN)/pytest

check: setup proto-check ## lint, format, types, imports, generated stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## put everything in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: setup ## generate the stubs from proto/
	$(BIN)/python proto/generate.py

proto-check: setup
	$(BIN)/python proto/generate.py --check

bench: setup ## print tables of ratios taken side by side
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) build dist out
