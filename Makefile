# Everything runs in the project's own environment, .venv, made on first use from the pinned versions.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup quickstart test lint slow parity clean

setup: .venv/.done

.venv/.done: pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Pretune needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.txt --editable '.[test]'
	touch $@

quickstart: setup
	$(BIN)/pretune study --config=configs/studies/quickstart.py --workdir=runs/quickstart

# Each process takes half of the files in a row (worksteal), so that tests share their fixtures.
test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

slow: setup
	$(BIN)/python -m pytest -q -m slow

# The certificate, which writes docs/parity.md, and the tests against torch and transformers on a CPU.
parity: .venv/.parity
	JAX_PLATFORMS=cpu $(BIN)/python -W ignore -m tests.parity.certificate
	$(BIN)/python -m pytest -q -m parity

.venv/.parity: .venv/.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.txt --editable '.[test,parity]'
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv runs
