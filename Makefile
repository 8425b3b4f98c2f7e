# Every target does its own set-up: a virtual environment in .venv, and Mosquitto where it is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo check test test-training test-integration test-page test-docs test-node-red test-container contracts abuse fuzz faults soak audit bench digits clean

demo: .venv/.demo mosquitto
	$(BIN)/delen demo $(ARGS)

test: .venv/.dev mosquitto
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# One after the other: torch has threads of its own.
test-training: .venv/.dev mosquitto
	$(BIN)/python -m pytest tests/modelling -m training $(ARGS)

test-integration: .venv/.dev mosquitto
	@sh deploy/install-packages prometheus
	$(BIN)/python -m pytest tests/integration -m integration $(ARGS)

test-container: .venv/.dev mosquitto
	@sh deploy/install-packages docker
	$(BIN)/python -m pytest tests/container -m container --timeout 600 $(ARGS)

abuse: .venv/.dev mosquitto
	$(BIN)/python -m pytest tests/test_abuse.py -m abuse --timeout 0 $(ARGS)

test-node-red: .venv/.dev mosquitto
	@sh deploy/install-packages node
	cd tests/node-red && npm ci --silent --ignore-scripts --no-audit --no-fund
	$(BIN)/python -m pytest tests/test_examples.py -m node_red $(ARGS)

test-page: .venv/.dev mosquitto
	@sh deploy/install-packages chromium
	$(BIN)/python -m pytest tests/page -m page -n 2 $(ARGS)

test-docs: .venv/.dev mosquitto
	$(BIN)/python -m pytest tests/docs -m docs -n 2 --dist load --timeout 480 $(ARGS)

check: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml appliance
	$(BIN)/hadolint Dockerfile deploy/mosquitto/Dockerfile
	$(BIN)/shellcheck deploy/install-packages deploy/make-secrets deploy/make-certificate \
		deploy/mosquitto/run examples/shell/*.sh

contracts: .venv/.dev
	@sh deploy/install-packages node
	$(BIN)/delen contracts docs
	cd tests/asyncapi && npm ci --silent --ignore-scripts --no-audit --no-fund
	node tests/asyncapi/validate.mjs docs

fuzz: .venv/.fuzz
	$(BIN)/python -m tests.fuzz --seconds 10 $(ARGS)

audit: .venv/.audit
	$(BIN)/python deploy/audit.py

bench: .venv/.dev mosquitto
	$(BIN)/python -m benchmarks

# Real processes under a seeded schedule of faults; ARGS="--schedules 200" for the whole.
faults: .venv/.dev mosquitto
	@sh deploy/install-packages compiler
	$(BIN)/python -m pytest tests/faults -m faults >&2
	$(BIN)/python -m tests.faults $(ARGS)

# Load with mild faults for long; ARGS="--minutes 30 --png soak.png".
soak: .venv/.dev mosquitto
	$(BIN)/python -m tests.faults.soak $(ARGS)

digits: .venv/.dev
	$(BIN)/delen train -m digits --dataset digits --out runs/digits -n 14 -b 32 -l 0.004 --optimizer adamw \
		--one-cycle --weights 0.2 0.2 0.1 0.5
	$(BIN)/delen split runs/digits --out engines/digits
	$(BIN)/delen profile engines/digits --dataset digits
	$(BIN)/delen profile engines/digits

.venv/.venv:
	@sh deploy/install-packages "$(PYTHON)"
	$(PYTHON) -m venv .venv
	touch $@

# The demo runs on what the appliance, the dashboard and `delen top` need; the tests and the checks need torch and the linters too.
.venv/.demo: .venv/.venv pyproject.toml constraints.txt
	$(INSTALL) -e '.[dashboard,top]'
	touch $@

.venv/.dev: .venv/.venv pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev,train]'
	touch $@ .venv/.demo

.venv/.fuzz: .venv/.dev
	$(INSTALL) -e '.[fuzz]'
	touch $@

.venv/.audit: .venv/.dev
	$(INSTALL) -e '.[audit]'
	touch $@

.PHONY: mosquitto
mosquitto:
	@sh deploy/install-packages mosquitto

clean:
	rm -rf .venv runs build *.egg-info
