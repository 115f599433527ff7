# Every target works on a machine with Python 3.11 to 3.13, gcc, git and make: it installs what it needs into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CODE := src tests benchmarks examples scripts
# The tests of a file share servers and build on each other, so a file stays in one process. Half of the time they wait
# for servers and programs, so two cores are busy with four processes.
JOBS ?= 4
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
export VENV
# Without byte code, each process of the tests compiles what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-long quick check bench soak format clean

help:
	@echo "make demo      run three tasks on two real models, offline"
	@echo "make quick     run the tests without servers, models and subprocesses (a minute)"
	@echo "make test      run all tests but the long ones"
	@echo "make test-long run the long ones: an older Kaggle, more files of the SDK, more kills of sweeps"
	@echo "make check     check format, lint, types, imports and dependencies, and the page's JavaScript with node"
	@echo "make bench     run the benchmarks (several minutes)"
	@echo "make soak      sweep for an hour under faults and kills, and see whether anything grows (SOAK_MINUTES=60)"
	@echo "make format    format the code and apply lint fixes"
	@echo "make clean     remove .venv and all caches"

# constraints.txt pins every package to the version that was tested.
$(VENV)/.local: pyproject.toml constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.local
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev]'
	@touch $@

# A server for S3, with packages that must not mix with ours. Without it, the tests that need one are skipped.
$(VENV)/.s3/.done: constraints-s3.txt
	$(PYTHON) -m venv $(VENV)/.s3
	$(VENV)/.s3/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-s3.txt 'moto[server]'
	@touch $@

demo: $(VENV)/.local
	scripts/demo.sh

test: $(VENV)/.dev $(VENV)/.s3/.done
	$(BIN)/python -m fanbench models add smollm2 gemma3 --data $(VENV)/models --no-check
	FANBENCH_TEST_MODELS=$(VENV)/models $(PYTEST) -m "not long"

test-long: $(VENV)/.dev
	$(PYTEST) -m long

quick: $(VENV)/.dev
	$(PYTEST) -m "not e2e and not slow and not long"

check: $(VENV)/.dev
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_imports.py
	$(BIN)/deptry $(CODE)
	$(BIN)/deptry src --optional-dependencies-dev-groups dev
	scripts/check_page.sh

format: $(VENV)/.dev
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/many_runs.py
	$(BIN)/python benchmarks/calls.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/sweep_scale.py
	$(BIN)/python benchmarks/sweep_scale.py --simulate 1000 10000
	$(BIN)/python benchmarks/faults.py
	$(BIN)/python benchmarks/results.py --tasks 5
	$(BIN)/python benchmarks/local_runs.py
	$(BIN)/python -m benchmarks.store
	$(BIN)/python -m benchmarks.cluster
	$(BIN)/python benchmarks/proxy.py
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.live_page
	$(BIN)/python benchmarks/model_speed.py
	$(BIN)/python benchmarks/page.py

soak: $(VENV)/.dev
	$(BIN)/python benchmarks/soak.py

clean:
	rm -rf $(VENV) scripts/page/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
