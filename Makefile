# The front door. Everything works on a machine that has Python 3.11 to 3.13, gcc, git and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export VENV

.PHONY: help demo test check bench format clean

help:
	@echo "make demo    set-up, then the main job: three tasks on two real models, offline"
	@echo "make test    set-up, then all tests"
	@echo "make check   format, lint, types, import rules"
	@echo "make bench   measurements, side by side (minutes)"
	@echo "make format  put the format right"

# What was tested is what is installed: constraints.txt pins every package.
$(VENV)/.local: pyproject.toml constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.local
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev]'
	@touch $@

demo: $(VENV)/.local
	scripts/demo.sh

test: $(VENV)/.dev
	$(BIN)/python -m fanbench models add smollm2 gemma3 --data $(VENV)/models --no-check
	FANBENCH_TEST_MODELS=$(VENV)/models $(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests benchmarks examples scripts
	$(BIN)/ruff check src tests benchmarks examples scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format src tests benchmarks examples scripts
	$(BIN)/ruff check --fix src tests benchmarks examples scripts

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/many_runs.py
	$(BIN)/python benchmarks/calls.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/sweep_scale.py
	$(BIN)/python benchmarks/sweep_scale.py --simulate 1000 10000
	$(BIN)/python benchmarks/local_runs.py
	$(BIN)/python benchmarks/model_speed.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
