# Each target makes the environment it needs and then does its job.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint audit-dependencies clean

demo: $(VENV)/.offline
	$(BIN)/python -m construct.run --stage all --profile offline --run runs/demo

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest -n 2

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known vulnerabilities of the pinned versions. Where the advisories cannot be reached, it says so and passes.
audit-dependencies: $(VENV)/.dev
	@$(BIN)/python -m tests.audit_dependencies

# The lock pins versions that were tested together; torch is pinned there because the newest one
# pulls several GB of CUDA packages. A dev environment serves the demo too.
$(VENV)/.dev: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[dev]'
	@touch $(VENV)/.dev $(VENV)/.offline

$(VENV)/.offline: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[offline]'
	@touch $(VENV)/.offline

clean:
	rm -rf $(VENV) runs
