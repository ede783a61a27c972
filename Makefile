# `make demo` shows the whole job on a synthetic sample; `make test` is what CI runs.
# Set PYTHON to choose the interpreter that .venv is made with: any from 3.11 on.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-long lint format docs mutants clean

demo: $(VENV)/.installed
	$(BIN)/ser quickstart

test: lint
	$(PYTEST) -n auto --dist loadgroup -m "not long"

test-long: lint
	$(PYTEST) -n auto --dist loadgroup

lint: $(VENV)/.tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.tested
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "build/docs/index.html; to search as well: $(BIN)/python -m http.server --directory build/docs"

# Changes the code of statistics, folds, keys and fingerprints in small ways, one at a time, and says which no test notices.
mutants: $(VENV)/.tested
	$(PIP) mutmut
	$(BIN)/mutmut run
	$(BIN)/mutmut results

clean:
	rm -rf $(VENV) build mutants *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ser needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1): make demo PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): once, and torch is large"
	$(PIP) --editable .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) --editable ".[test]"
	@touch $@

$(VENV)/.documented: $(VENV)/.installed
	$(PIP) --editable ".[docs]"
	@touch $@
