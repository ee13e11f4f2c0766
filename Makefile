# `make demo` and `make test` are all that a fresh clone needs; PYTHON picks the interpreter.
PYTHON ?= python3
BIN := .venv/bin
# Why: launch/cli.py.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test soak lint clean

demo: .venv/installed
	$(BIN)/emojigan demo

test: .venv/installed
	$(BIN)/python -m pytest -q

soak: .venv/installed
	$(BIN)/python -m pytest -q -m soak

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# Installs once; again only when what is installed has changed.
.venv/installed: setup.py pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,test]"
	touch $@

clean:
	rm -rf .venv demo build *.egg-info
