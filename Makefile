# Every target does its own set-up: a virtual environment in .venv, and Mosquitto where it is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-container test-page check bench digits clean

demo: .venv/.demo mosquitto
	$(BIN)/delen demo $(ARGS)

test: .venv/.dev mosquitto
	$(BIN)/python -m pytest $(ARGS)

test-container: .venv/.dev mosquitto
	@sh deploy/install-packages docker
	$(BIN)/python -m pytest tests/container -m container --timeout 600 $(ARGS)

test-page: .venv/.dev mosquitto
	@sh deploy/install-packages chromium
	$(BIN)/python -m pytest tests/page -m page $(ARGS)

check: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile deploy/mosquitto/Dockerfile
	$(BIN)/shellcheck deploy/install-packages deploy/make-secrets deploy/mosquitto/run

bench: .venv/.dev mosquitto
	$(BIN)/python -m benchmarks

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

# The demo runs on what the appliance and the dashboard need; the tests and the checks need torch and the linters too.
.venv/.demo: .venv/.venv pyproject.toml constraints.txt
	$(INSTALL) -e '.[dashboard]'
	touch $@

.venv/.dev: .venv/.venv pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev,train]'
	touch $@ .venv/.demo

.PHONY: mosquitto
mosquitto:
	@sh deploy/install-packages mosquitto

clean:
	rm -rf .venv runs build *.egg-info
