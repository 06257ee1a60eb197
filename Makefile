# `make` alone lists the targets. Every target does its own set-up: a fresh clone needs only Python 3.11 and make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := list

PYTHON ?= python3
UV := uv==0.13.9
BIN := .venv/bin
STAMP := .venv/.installed
CLIENTS := tests/clients/node
DATA ?= conosco-data

# `make bench tracking` is the same as `make bench NAME=tracking`.
ifeq (bench,$(firstword $(MAKECMDGOALS)))
NAME ?= $(word 2,$(MAKECMDGOALS))
ifneq (,$(word 2,$(MAKECMDGOALS)))
.PHONY: $(word 2,$(MAKECMDGOALS))
$(word 2,$(MAKECMDGOALS)): ; @:
endif
endif

.PHONY: list
list:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.PHONY: init
init: $(STAMP) clients ## install everything that development and tests need

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Conosco needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet '$(UV)'
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@

# Real SDKs of other languages and a real browser take part in the tests; as root they are fetched when missing.
.PHONY: clients
clients: system
	@if [ -f $(CLIENTS)/package.json ] && [ ! $(CLIENTS)/node_modules/.package-lock.json -nt $(CLIENTS)/package-lock.json ]; then \
		if command -v npm >/dev/null; then cd $(CLIENTS) && npm ci --no-audit --no-fund --loglevel=error; \
		else echo "npm is missing: tests of Node clients will be skipped. Install nodejs and npm, or run as root."; fi; fi

.PHONY: system
system:
	@missing=""; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	PATH="$$PATH:/usr/sbin"; \
	command -v nginx >/dev/null || missing="$$missing nginx-light"; \
	command -v promtool >/dev/null || missing="$$missing prometheus"; \
	command -v sshd >/dev/null || missing="$$missing openssh-server"; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
		else echo "Missing:$$missing. Tests that need them will be skipped; install them, or run make as root."; fi; fi

.PHONY: test
test: init lint house ## lint, house rules and all tests but the deep ones
	$(BIN)/python -m pytest --ignore=tests/house

.PHONY: test-deep
test-deep: init ## the tests that take minutes, with random examples
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -m "deep or not deep"

.PHONY: lint
lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: house
house: $(STAMP) ## the rules of the house: floors, limits, words, docs complete
	$(BIN)/python -m pytest -q tests/house

.PHONY: format
format: $(STAMP) ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: $(STAMP) ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--upgrade --no-header --no-annotate --quiet --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--constraint <(grep -oE '^[A-Za-z0-9_.-]+==[^ ]+' requirements.lock) --no-header --no-annotate --quiet --output-file requirements.core.lock

.PHONY: docs
docs: $(STAMP) ## write the generated pages of docs/reference
	$(BIN)/python -m tools.reference

.PHONY: serve
serve: $(STAMP) ## run Conosco from this folder; DATA=folder
	$(BIN)/conosco serve --data $(DATA)

.PHONY: bench
bench: $(STAMP) ## run a benchmark: make bench NAME
	@if [ -z "$(NAME)" ]; then echo "Which one? make bench NAME, where NAME is one of:"; \
		find benchmarks -mindepth 1 -maxdepth 1 -name '[a-z]*' | sed -E 's|benchmarks/||; s|\.py$$||' | sort -u; exit 2; fi
	$(BIN)/python -m benchmarks.$(NAME)
