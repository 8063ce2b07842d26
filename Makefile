# Everything a person or a machine does with this checkout. `make` alone lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv/bin
PREFIX ?= /opt/proa
# Tests wait more than they work. Each worker has daemons of its own; WORKERS=0 runs all of it in one process.
WORKERS ?= 3
PYTEST_ARGS ?=

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: preflight deps venv ## run a container on a private daemon, and show what there is to see
	@scripts/demo.sh

.PHONY: test
test: preflight deps-test venv check ## check everything, then run all tests (needs root)
	@scripts/cgroups.sh
	@PATH="$(CURDIR)/.tools:$$PATH" $(VENV)/python -m pytest -m "not soak" -n $(WORKERS) $(PYTEST_ARGS)

.PHONY: soak
soak: preflight deps-test venv ## the long runs that `make test` leaves out (needs root)
	@scripts/cgroups.sh
	@PATH="$(CURDIR)/.tools:$$PATH" $(VENV)/python -m pytest -m soak --timeout 3600 $(PYTEST_ARGS)

.PHONY: check
check: venv ## lint, format and types
	@$(VENV)/ruff check
	@$(VENV)/ruff format --check
	@$(VENV)/mypy

.PHONY: format
format: venv ## let ruff mend what it can
	@$(VENV)/ruff check --fix
	@$(VENV)/ruff format

.PHONY: bench
bench: preflight deps-test venv ## measure proa; PEER=unix:///path beside it, JSON=file for a machine to read (needs root)
	@scripts/cgroups.sh
	@PATH="$(CURDIR)/.tools:$$PATH" $(VENV)/python -m tests.bench \
		$(if $(PEER),--peer "$(PEER)") $(if $(JSON),--json "$(JSON)") $(BENCH_ARGS)

.PHONY: vm
vm: venv ## prove systemd, cgroup v2 and a reboot in a virtual machine; SUITE=trixie for Debian 13 (needs root)
	@PYTEST_ARGS="$(PYTEST_ARGS)" SUITE="$(SUITE)" scripts/vm.sh

.PHONY: preflight
preflight:
	@scripts/preflight.sh $(firstword $(MAKECMDGOALS))

.PHONY: deps
deps: ## install the Debian packages that the engine needs (needs root if any is missing)
	@scripts/deps.sh

.PHONY: deps-test
deps-test:
	@scripts/deps.sh test

.PHONY: venv
venv: ## make .venv with .venv/bin/proad and .venv/bin/proa
	@scripts/venv.sh
	@# As an installed proa is; else an environment with PYTHONDONTWRITEBYTECODE compiles all of it at every start.
	@$(VENV)/python -m compileall -q daemon client

.PHONY: lock
lock: ## resolve the dependency set anew; UPGRADE=1 takes newer versions
	@scripts/lock.sh

.PHONY: install
install: ## install into /opt/proa with systemd units (needs root; PREFIX and DESTDIR honoured)
	@PREFIX="$(PREFIX)" scripts/install.sh

.PHONY: uninstall
uninstall: ## remove what install made; PURGE=1 also removes images, volumes and containers
	@PREFIX="$(PREFIX)" scripts/uninstall.sh

.PHONY: clean
clean: ## remove what was built in this checkout
	@rm -rf .venv .tools .vm build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find daemon client tests -name __pycache__ -type d -prune -exec rm -rf {} +
