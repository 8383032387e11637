# `make demo` and `make test` set up what they need, once, in .venv, and run.

VENV ?= .venv
RUN = HF_HUB_DISABLE_TELEMETRY=1 $(VENV)/bin/python

.PHONY: setup demo test format clean

demo: $(VENV)/.ready
	$(RUN) -m hfpipe ask examples/pregunta.wav --speaker-wav examples/voz.wav --model offline

test: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(RUN) -m pytest -q

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.txt requirements-jupyter.txt pyproject.toml setup.sh
	sh setup.sh $(VENV)
	touch $@

format: $(VENV)/.ready
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV)
