# make phase-diagram   the picture        make test   the same, then the tests        make help   the rest
#
# A virtual environment is made in .venv when it is missing and brought up to date when what it was made from changes.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
TEST_ARGS ?=
WORKERS ?= auto

BIN := $(VENV)/bin
NATIVE_SOURCES := $(wildcard kernels/cpu/*.cpp kernels/cpu/*.h)
INSTALLED_FROM := pyproject.toml CMakeLists.txt $(NATIVE_SOURCES)

# What one module's tests prepare for each other is prepared once: a module stays in one process (--dist loadscope below).
PARALLEL := -n $(WORKERS) --maxprocesses 8

.PHONY: help phase-diagram test test-slow test-triton lint ruff-check ruff-format mypy clean

help:
	@echo "make phase-diagram   install into $(VENV) if needed, then simulate and draw the phase diagram"
	@echo "                     options of the command: make phase-diagram ARGS='--data spurious --out spurious'"
	@echo "make test            the same, then run the tests (installs PyTorch, which the tests compare with)"
	@echo "                     options of pytest: make test TEST_ARGS='tests/kernels -x'; processes: WORKERS=2"
	@echo "make test-slow       the tests that make test leaves out: exhaustive, or long for what they prove"
	@echo "make test-triton     the tests of the GPU engine without a GPU, in Triton's interpreter"
	@echo "make lint            style and type checks"
	@echo "make clean           remove .venv, build and the caches (results in out/ stay)"
	@echo "PYTHON=python3.12    another interpreter (3.10 or later) for a new environment"

phase-diagram: $(VENV)/.installed
	$(BIN)/python -m toymodels.phase_diagram $(ARGS)

test: phase-diagram $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PARALLEL) --dist loadscope -m "not slow" $(TEST_ARGS)

# Few and long: whoever is free takes the next one. Those that compile for GPUs are test-triton's.
test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PARALLEL) --dist worksteal -m slow -k "not triton" $(TEST_ARGS)

# The engine is asked for, so that its tests fail where Triton is missing. They are many and alike: each goes to
# whoever is free.
test-triton: $(VENV)/.installed-test
	TRITON_INTERPRET=1 SAMBALANCE_REQUIRE_ENGINES=triton \
	  $(BIN)/python -m pytest $(PARALLEL) --dist worksteal -k triton tests/kernels $(TEST_ARGS)

lint: ruff-check ruff-format mypy

ruff-check: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check .

ruff-format: $(VENV)/.installed-dev
	$(BIN)/python -m ruff format --check .

mypy: $(VENV)/.installed-dev
	$(BIN)/python -m mypy

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "'$(PYTHON)' is missing or older than Python 3.10; name another one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

# One stamp per set of requirements. The installation is editable, so that changes of Python files need no new one.
$(VENV)/.installed: $(INSTALLED_FROM) | $(BIN)/python
	@echo "Installing into $(VENV) and compiling the C++ engine: a minute or two"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# sambalance itself is there already: these add the packages of an extra, and compile nothing again.
$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing what the tests need, PyTorch among it"
	$(BIN)/python -m pip install --quiet 'sambalance[test]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet 'sambalance[dev]'
	@touch $@
