PYTHON ?= $(or $(shell python3 .ci/interpreter 2>/dev/null),python3)
HOST ?= http://127.0.0.1:3000
override HOST := $(patsubst %/,%,$(HOST))
RATE ?= 100
DURATION ?= 1m
BIN := .venv/bin
MANAGE := $(BIN)/python manage.py

.PHONY: help demo test test-fleet test-browser screenshots faults faults-long backlog soak scale figures quote up load \
	bench bench-quick bench-beside check format watch newman contract transcript

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/installed ## one order live, then ten at once, on servers started for it
	@$(MANAGE) demo

up: .venv/installed ## the stack in the foreground; PORT= and DATA_DIR= for a second one
	@$(MANAGE) up

watch: .venv/installed ## follow ORDER=ord_..., or all orders
	@$(MANAGE) watch $(ORDER)

load: .venv/installed ## RATE=100 orders a minute for DURATION=1m against HOST
	@ORDERS_PER_MINUTE=$(RATE) RUN_TIME=$(DURATION) \
		$(BIN)/locust -f locustfiles/orders.py --headless --host $(HOST)

newman: .venv/installed ## the Postman collection against HOST
	@npx --yes --loglevel=error newman@6.2.2 run docs/postman/order-engine.postman_collection.json \
		--color off --reporter-cli-no-banner --reporter-cli-no-success-assertions \
		--env-var baseUrl=$(HOST) $(API_KEY:%=--env-var apiKey=%)

contract: ## schemathesis: HOST against its own OpenAPI document
	@.ci/schemathesis $(HOST)

transcript: .venv/installed ## one client's life over the WebSocket alone, against HOST
	@$(BIN)/python -m tests.transcript $(HOST)

test: .venv/installed ## the tests; ARGS=--cov for the coverage of orders and dex
	$(BIN)/python -m pytest -n 3 $(ARGS)

test-fleet: .venv/installed ## the tests that start stacks and take their time: up, stops, kills, limits across processes, the fast profile
	$(BIN)/python -m pytest -n 2 -m fleet --timeout 180 tests $(ARGS)

test-browser: .venv/installed ## the order desk and the admin in Chromium
	$(BIN)/python -m pytest -n 2 -m browser -p no:randomly tests/browser $(ARGS)

screenshots: .venv/installed ## the pictures of the README, of HOST
	@$(BIN)/python -m tests.browser.screenshots $(HOST)

faults: .venv/installed ## kill, stop and starve the running stack, and check what was promised; SEED=
	@$(BIN)/python -m tests.faults $(SEED:%=--seed %) $(ARGS)

faults-long: .venv/installed ## the same in full doses at default delays, about 40 minutes
	@$(BIN)/python -m tests.faults --long $(SEED:%=--seed %) $(ARGS)

backlog: .venv/installed ## times of POST, claim and stats with 0, 10,000 and 100,000 orders waiting
	@$(BIN)/python -m tests.faults.backlog

figures: .venv/installed ## time per quote and route, and what a split is worth
	@$(BIN)/python -m tests.dex.figures

quote: .venv/installed ## every venue's quote and the route now: PAIR="SOL USDC" AMOUNT=1.5, on a running stack
	@$(MANAGE) quote $(or $(PAIR),SOL USDC) $(or $(AMOUNT),1.5)

scale: .venv/installed ## times of lists, POST, stats and claim with 0, 10,000 and 1,000,000 orders
	@$(BIN)/python -m tests.scale

bench: .venv/installed ## rates, delays, CPU and memory, three times each; ARGS="--json FILE --before FILE"
	@$(BIN)/python -m tests.bench $(ARGS)

bench-quick: .venv/installed ## the same in small doses, without start-up, orders in flight and tables
	@$(BIN)/python -m tests.bench --quick $(ARGS)

soak: .venv/installed ## a stack under load for 10 minutes: what its processes grow by; ARGS="--minutes 60 --rate 50"
	@$(BIN)/python -m tests.bench.soak $(ARGS)

bench-beside: .venv/installed ## by turns with a lean engine in Node: the ratios; ARGS="--profile fast --rounds 5"
	@$(BIN)/python -m tests.bench.beside $(ARGS)

check: .venv/installed ## lint, types, import contracts, migrations, production settings, OpenAPI
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -W 'ignore:Got an error checking' manage.py makemigrations --check --dry-run
	@DEBUG=false ALLOWED_HOSTS=example.com \
		SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(50))') \
		DATABASE_URL=postgres://u:p@localhost/db REDIS_URL=redis://localhost \
		$(MANAGE) check --deploy --fail-level WARNING
	@$(MANAGE) spectacular --validate --fail-on-warn --file /dev/null

format: .venv/installed ## format and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.venv/installed: requirements.txt requirements-dev.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "$(PYTHON) is missing or older than 3.11: install Python 3.11 or set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make a virtualenv: install its venv package (python3-venv)"; exit 1; }
	@echo "installing dependencies into .venv ($$($(PYTHON) -c 'import sys; print(sys.executable)'))"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check -r requirements-dev.txt
	@touch $@
