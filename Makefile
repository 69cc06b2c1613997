# make demo   set up, compile, verify, train the quick Tetris network and show the result; again: goes on
# make test   set up and run the fast test suite
# make lint   formatting, lint and types
# make docs   the documentation as a site, built offline: site/

PYTHON ?= python3
# Processes that run the tests.
JOBS ?= 2
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow lint docs format lock clean

demo: $(READY)
	$(BIN)/basisgen compile examples/tetris/tetris.toml
	$(BIN)/basisgen verify generated/tetris
	$(BIN)/python -m examples.tetris --preset quick --network steerable --network conventional --resume

test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The environment: made when missing, brought up to date when the lock or the package's metadata changes.
$(READY): requirements.lock pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "basisgen needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

# The versions the tests ran with, from the present environment.
lock:
	$(BIN)/python -m pip freeze --exclude-editable --all | grep -v '^pip=' | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
