# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# constraints.txt pins every direct dependency; torch first, so that nothing else draws in another build.
PIP := $(BIN)/pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test lint types unit bench evidence schemas wheel clean help

help:
	@grep -E '^## ' Makefile | sed 's/## //'

## make demo      create .venv, install, audit the two bundled models, write their cards
demo: $(VENV)/.installed
	$(BIN)/albert-audit demo --out demo-audit
	@echo "open demo-audit/planted/card.en.html in a browser"

## make test      everything the suite needs, then lint, types, layers and the suite
test: $(VENV)/.dev lint types unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

## make bench     the scorer against a plain loop and this machine's sgemm rate; attribution against Captum (minutes)
bench: $(VENV)/.dev
	$(BIN)/python bench/scorer.py
	$(BIN)/python bench/attribution.py

## make evidence  the slow tests: coverage simulations and more (minutes)
evidence: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow -s

## make schemas   write the JSON Schemas of the documents to docs/reference
schemas: $(VENV)/.dev
	$(BIN)/python -m albert_audit.schemas docs/reference

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo-audit dist build
