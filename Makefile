# Everything a person does with this repository. Needs python3 (3.11 or newer) and make; fetches the rest itself.

PYTHON ?= python3
KIND ?= latency
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

bootstrap := $(PYTHON) -I tools/bootstrap/prepare.py
python := .venv/bin/python
# Settings such as USER=alice on make's command line reach devstack through the environment.
devstack := $(python) -m devstack
# Who acts as a user: of what `make run` has started, or docker compose.
acting := $(python) -m $(if $(filter containers,$(STACK)),containers,devstack)
typed := $(wildcard libs/*/src services/*/src tools/*/src) tools/bootstrap/prepare.py examples/consumer examples/sync deploy/observability/grafana

# Tests at a time, file by file: they wait more than they work. 0 for one process, as a debugger needs it.
JOBS ?= 2

# One by one: their conftest.py have the same name.
tests := $(wildcard libs/*/tests services/*/tests tools/*/tests) tests

# Every target is a word, none a file.
.PHONY: $(shell awk -F: '/^[a-z0-9-]+:/ { print $$1 }' $(firstword $(MAKEFILE_LIST)))

help: ## This list
	@echo "Taskwire: a task back end whose every change is an event."
	@echo
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  TASKWIRE_PORT_BASE=8000  first of the ports; another one for a second stack"
	@echo "  TASKWIRE_REPLICAS        more of a service: task-api=2,notifier=2"
	@echo "  TASKWIRE_HOME            data, logs and run files (~/.local/share/taskwire)"
	@echo "  TASKWIRE_CACHE           what was fetched once (~/.cache/taskwire)"

run: prepare ## Set up and start everything; Ctrl-C ends it
	@$(devstack) run

up: prepare ## The same in the background; returns when all is ready
	@$(devstack) up

status: prepare ## What runs where (JSON=1: one JSON object on one line)
	@$(devstack) status

logs: prepare ## The last lines of a part's log: SERVICE=task-api (FOLLOW=1: and what comes)
	@$(devstack) logs

psql: prepare ## The database of a service, as its superuser: SERVICE=task-api (SQL="SELECT …" for one statement)
	@$(devstack) psql

token: prepare ## A token for the running stack: USER=alice (ROLES=admin,auditor; STACK=containers: of docker compose)
	@$(acting) token

demo: prepare ## The story of one task, with real requests, step by step (STACK=containers)
	@$(acting) demo

dlq: prepare ## Dead letters: SERVICE=audit-worker (ID=7, REDRIVE=7|all, DISCARD=7 NOTE="why"; STACK=containers)
	@$(acting) dlq

down: prepare ## End what runs in the background; the data stay
	@$(devstack) down

reset: prepare ## End it and delete its data; what was fetched stays
	@$(devstack) reset

backup: prepare ## Dump the databases of a running stack (TO=directory)
	@$(devstack) backup

restore: prepare ## Put them back, and compare rows and the audit chain: FROM=directory
	@$(devstack) restore

stop: prepare ## Stop one part of a running stack: PART=kafka
	@$(devstack) stop

start: prepare ## Start it again: PART=kafka
	@$(devstack) start

# On containers those tests alone that ask for the whole stack (conftest.py); what runs inside of them is not measured.
ifeq ($(STACK),containers)
what_is_tested := --numprocesses 0 tests/e2e tests/security
else
what_is_tested := --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered
endif

test: prepare ## All tests, on real PostgreSQL, Kafka and daprd, with coverage (ARGS=… for pytest, JOBS=2, STACK=containers)
	@$(python) -m pytest $(what_is_tested) $(ARGS)

secrets-k8s: prepare ## Random secrets for deploy/k8s/overlays/local, once
	@$(python) -m manifests secrets

test-k8s: prepare ## The Kubernetes manifests: as they are written, at an API server, in a cluster (docs/kubernetes.md)
	@TASKWIRE_TEST_K8S=1 $(python) -m pytest tests/deploy $(ARGS)

test-pooler: prepare ## The tests of the services, through PgBouncer in transaction mode (Debian's package, no root needed)
	@TASKWIRE_TEST_POOLER=1 $(python) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS) \
		services libs/chassis/tests/test_database.py

test-postgres: prepare ## The tests of the services on another PostgreSQL, from 15 on: POSTGRES=/usr/lib/postgresql/15/bin
	@TASKWIRE_TEST_POSTGRES=$(POSTGRES) $(python) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS) \
		services libs/chassis/tests/test_database.py tests/postgres

bench: prepare ## From a change to its audit row (KIND=publish: to Kafka; drain; consume; listing; portability; authentication; edges; ARGS=--rate 200)
	@$(python) tests/load/$(KIND).py $(ARGS)

fuzz: prepare ## Send what can be made of the OpenAPI documents, check every answer: EXAMPLES=500 SEED=7
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),200) FUZZ_SEED=$(or $(SEED),$(shell date +%s)) $(python) -m pytest -rP tests/contract/test_generated_requests.py $(ARGS)

chaos: prepare ## Break everything, lose nothing: SEED=7 MINUTES=3 KILLS=30 (SABOTAGE=all: are wrong designs noticed?)
	@$(python) -m tests.chaos

cluster-tools: prepare ## Build what a Kubernetes API server and a cluster of one node are made of; once, many minutes
	@$(python) -m cluster tools

cluster-up: prepare ## Start a Kubernetes cluster of one node with Dapr's control plane; root on Linux
	@$(python) -m cluster up

cluster-down: prepare ## End it; nothing of it stays
	@$(python) -m cluster down

check: prepare ## Style, types, import rules, contracts, lock file, known vulnerabilities, secrets in files
	@echo "ruff check";          .venv/bin/ruff check --quiet .
	@echo "ruff format --check"; .venv/bin/ruff format --check --quiet .
	@echo "mypy";                .venv/bin/mypy --no-error-summary $(typed)
	@for tests in $(tests); do .venv/bin/mypy --no-error-summary $$tests || exit 1; done
	@echo "lint-imports";        .venv/bin/lint-imports
	@echo "contracts";          $(python) -m contracts check
	@echo "squawk";             $(python) -m contracts.migrations
	@echo "uv lock --check";     $(bootstrap) uv lock --check --quiet
	@echo "pip-audit";           $(python) -m supply_chain advisories
	@echo "kingfisher";          $(python) -m supply_chain secrets

images: prepare ## Build the image of each service, with Docker (DOCKER="sudo docker")
	@$(python) -m containers images

images-local: prepare ## The same where no image registry is reachable: makes the public images too, of Debian and of what was fetched
	@$(python) -m containers local

sbom: prepare ## Write what is in each image to dist/sbom/, as CycloneDX
	@$(python) -m containers sbom

compose-env: prepare ## Complete .env with random secrets, as docker-compose.yml asks for them
	@$(python) -m containers environment

secrets: prepare ## Look for secrets in every commit there ever was (make check: in the files as they are)
	@$(python) -m supply_chain history

contract: prepare ## Write specs/ from the code (RELEASE=1 or task-api …: and set this version in stone)
	@$(python) -m contracts $(if $(RELEASE),release $(filter-out 1,$(RELEASE)),write)

dashboards: prepare ## Write Grafana's dashboards and the operator's alerts from their sources (deploy/observability)
	@$(python) -m deploy.observability.grafana
	@$(python) -m manifests alerts

format: prepare ## Put the code into shape
	@.venv/bin/ruff check --quiet --fix .
	@.venv/bin/ruff format --quiet .

prepare:
	@$(bootstrap)
