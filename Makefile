# Everything a developer runs. `make` alone lists the targets; each sets up what it needs, once.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SWIFT := .venv-swift
LOCKS := deploy/locks
# `make coverage` runs these; `make test` runs them so, and everything else beside them.
COVERED := tests/unit/registry tests/unit/words tests/fuzz
PIP := -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help setup tools demo-tools swift test test-fast live check lint types contracts format coverage fuzz explore mutate chaos \
    demo bench wheel locks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: tools $(VENV)/installed $(SWIFT)/installed ## set up everything that test and demo need

test: setup check ## run every check and every test, the ones on real servers too
	@$(BIN)/python -m tests.together $(COVERED)

test-fast: $(VENV)/installed check ## run the checks and the tests that need no server
	$(BIN)/python -m pytest -p tests.no_skips -m "not servers"

live: $(VENV)/installed ## try the client on registries of your own (says what to set)
	@$(BIN)/python -m tests.live

check: lint types contracts

lint: $(VENV)/installed ## look for mistakes and for unusual formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed ## check the types
	$(BIN)/mypy

contracts: $(VENV)/installed ## check that imports only point down
	$(BIN)/lint-imports --no-cache

format: $(VENV)/installed ## put the code into its usual format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(VENV)/installed ## measure what the tests run of the registry client; too little is a failure
	@$(BIN)/python -m tests.coverage_gate $(COVERED)

fuzz: $(VENV)/installed ## feed changed inputs to every parser of foreign text (FUZZ_SECONDS=600)
	@$(BIN)/python -m tests.fuzz

explore: $(VENV)/installed ## try every history of small worlds on the ledger's model (FAULTS=2 SECONDS=600)
	@$(BIN)/python -m tests.explore

mutate: $(VENV)/installed ## change the riskiest modules and list what no test notices (MUTATE=blobs,uploads)
	@$(BIN)/python -m tests.mutate

chaos: demo-tools $(VENV)/installed $(SWIFT)/installed ## kill, freeze and cut everything during a migration (N=kills SEED=s)
	@N="$(N)" SEED="$(SEED)" $(BIN)/python -m tests.chaos $(if $(JSON),--json "$(JSON)")

demo: demo-tools $(VENV)/installed $(SWIFT)/installed ## migrate sample images between two real registries (ONCE=1: then stop)
	@$(BIN)/python -m deploy.demo

bench: demo-tools $(VENV)/installed $(SWIFT)/installed ## measure against skopeo on this machine
	@$(BIN)/python -m bench

wheel: $(VENV)/installed ## build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

locks: ## resolve the dependencies anew (needs uv and the network)
	@command -v uv >/dev/null || { echo "make locks needs uv (https://docs.astral.sh/uv)" >&2; exit 1; }
	cd $(LOCKS) && for lock in "../../pyproject.toml -o run.lock" "--extra test ../../pyproject.toml -o test.lock" \
	    "swift.in -o swift.lock"; do \
	    uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade $$lock \
	        >/dev/null || exit 1; \
	done

clean: ## remove environments, caches and everything made
	rm -rf $(VENV) $(SWIFT) build dist .demo .bench .mutate .coverage-registry* .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

swift: $(SWIFT)/installed ## install the S3 server of test and demo into its own environment

tools:
	@deploy/tools.sh docker-registry skopeo htpasswd rabbitmq-server

demo-tools:
	@deploy/tools.sh docker-registry skopeo htpasswd

# The stamp files say that an environment holds what its lock says; with them, nothing asks the network again.
$(VENV)/packages: $(LOCKS)/test.lock
	$(call new-environment,$(VENV))
	@echo "Installing the packages of $< into $(VENV), once"
	@$(VENV)/bin/python $(PIP) --require-hashes -r $<
	@touch $@

$(VENV)/installed: $(VENV)/packages pyproject.toml
	@$(VENV)/bin/python $(PIP) --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(SWIFT)/installed: $(LOCKS)/swift.lock
	$(call new-environment,$(SWIFT))
	@echo "Installing the packages of $< into $(SWIFT), once"
	@$(SWIFT)/bin/python $(PIP) --require-hashes -r $<
	@touch $@

define new-environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
    { echo "Python 3.11 or newer is needed: on Debian/Ubuntu apt-get install python3-venv," \
        "or name another one by make PYTHON=python3.12" >&2; exit 1; }
@$(PYTHON) -m venv --clear $(1) || \
    { echo "No virtual environment can be made here; on Debian/Ubuntu: apt-get install python3-venv" >&2; exit 1; }
endef
