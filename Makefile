# `make demo` and `make test` are all that a fresh clone needs; PYTHON picks the interpreter.
PYTHON ?= python3
BIN := .venv/bin
# Why: launch/cli.py.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test soak lint clean

demo: .venv/demo
	$(BIN)/emojigan demo

# A file's tests share what they set up, so each file is one process's.
test: .venv/test
	$(BIN)/python -m pytest -q --numprocesses logical --maxprocesses 8 --dist loadfile

soak: .venv/test
	$(BIN)/python -m pytest -q -m soak

lint: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# Each installs once; again only when what is installed has changed. The demo needs nothing of the tests.
.venv/demo: EXTRAS := demo
.venv/test: EXTRAS := demo,test
.venv/demo .venv/test: setup.py pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf .venv demo build *.egg-info
