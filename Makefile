# The README's two commands are `make run` and `make test`; each installs what it needs first, and no more.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check venv packages clean

run: $(VENV)/.installed
	$(BIN)/coroner

test: packages venv check
	$(BIN)/pytest

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The agent, and the developers' tools beside it.
venv: $(VENV)/.tools

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.tools: $(VENV)/.installed
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --group dev
	touch $@

# What the tests run for real. Without root or apt the tests that need them skip and name the missing package.
packages:
	sh tests/packages.sh

clean:
	rm -rf $(VENV) .lab .mypy_cache .ruff_cache .pytest_cache
