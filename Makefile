.DEFAULT_GOAL := help
PYTHON ?= python3.11
BOOT := build/boot
BIN := build/envs/serving/bin
ROOMS := schemas feature_repo

.PHONY: help setup lint format test lock clean

help: ## Show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: build/envs/serving/.ready ## Install everything the other targets need, under build/

build/boot/.ready: requirements/boot.txt
	@echo "[setup 1/2] installer (a few seconds)"
	$(PYTHON) -m venv $(BOOT)
	$(BOOT)/bin/pip install --quiet --require-hashes -r requirements/boot.txt
	@touch $@

build/envs/serving/.ready: requirements/dev.txt build/boot/.ready
	@echo "[setup 2/2] Python packages (under a minute)"
	$(BOOT)/bin/uv venv --quiet --clear --python $(PYTHON) build/envs/serving
	$(BOOT)/bin/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements/dev.txt
	@touch $@

lint: setup ## Formatting, style, types and the import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## Run the tests and print the coverage
	$(BIN)/pytest $(addprefix --cov=,$(ROOMS)) --cov-report=term

lock: build/boot/.ready ## Pin all requirements anew, with hashes
	for name in boot flink dev; do $(BOOT)/bin/uv pip compile --quiet --python-version 3.11 \
	  --generate-hashes --no-header --no-emit-index-url requirements/$$name.in -o requirements/$$name.txt; done

clean: ## Remove everything that was installed or built
	rm -rf build
