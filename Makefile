# Everything runs in .venv, which the first target that needs it makes from constraints.txt. Python compiles what is
# imported; pip need not compile all that is installed.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help book test lab lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: .venv/book  ## execute the chapters that changed and render the book to _build/html
	$(BIN)/jupyter-book build book/

test: .venv/dev  ## run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lab: .venv/book  ## open the chapters in JupyterLab
	$(BIN)/jupyter lab book/

lint: .venv/dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove the built book and caches; keeps .venv
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ctnet needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/book: .venv/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[book]'
	touch $@

.venv/dev: .venv/book
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[book,dev]'
	touch $@
