# make run: everything from nothing to a report.  make test: the whole suite.  make lint: what CI checks besides.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?=

# make docs: the pages that are written from the code, and the site.
.PHONY: help run test docs lint install install-test install-docs install-dev speed clean

help:
	@echo "make run    install, run all methods on the vessel data (simulated where there is none), write report/"
	@echo "make test   install with the test extra, run the whole test suite"
	@echo "make docs   write the pages that come from the code, build the site into build/docs, check its links"
	@echo "make lint   ruff, mypy, import-linter"
	@echo "make speed  the timing harness of benchmarks/speed (ratios, not tests)"
	@echo "make clean  remove the virtual environment"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

install: $(BIN)/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .

install-test: $(BIN)/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'

install-docs: $(BIN)/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'

install-dev: $(BIN)/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'

run: install
	$(BIN)/pflbench run --methods all --dataset vessel --seeds 3 $(if $(JOBS),--jobs $(JOBS))
	$(BIN)/pflbench report runs --out report

test: install-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

docs: install-docs
	for script in docs/make_*.py; do $(BIN)/python $$script || exit 1; done
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -d build/doctrees docs build/docs
	$(BIN)/python docs/check_links.py build/docs

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

speed: install
	$(BIN)/python benchmarks/speed/measure.py

clean:
	rm -rf $(VENV)
