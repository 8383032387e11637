# Each target sets up what it needs in .venv, once, and runs.

VENV ?= .venv
PARALLEL = -n 2 --dist worksteal
RUN = HF_HUB_DISABLE_TELEMETRY=1 $(VENV)/bin/python

.PHONY: setup demo lint test test-fast format clean

demo: $(VENV)/.ready
	$(RUN) -m hfpipe ask examples/pregunta.wav --speaker-wav examples/voz.wav --model offline

test: lint
	sh test-packages.sh
	$(RUN) -m pytest -q $(PARALLEL)

test-fast: $(VENV)/.ready
	$(RUN) -m pytest -q $(PARALLEL) -m "not slow and not offline"

lint: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.txt requirements-jupyter.txt pyproject.toml setup.sh
	sh setup.sh $(VENV)
	touch $@

format: $(VENV)/.ready
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV)
