# make quickstart: Exp-010 to Exp-014 on the shipped model. make test: lint, types, tests.
# make test-all: the slow tests too. make docs: the documentation into build/docs.
# make notebooks: run them, in place. make lock: the newest versions of all dependencies into
# constraints.txt. make test-lowest: the tests on the oldest ones that pyproject.toml allows.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RESOLVE := $(BIN)/uv pip compile pyproject.toml --extra test --extra docs --extra notebook \
	--python-version 3.11 --no-header --quiet

.PHONY: quickstart notebooks docs test test-all test-lowest lint lock clean

quickstart: $(VENV)/.installed
	$(BIN)/python -m experiments.quickstart

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 30 -m "not slow"

test-all: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

notebooks: $(VENV)/.installed-test
	$(BIN)/python notebooks/run.py

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "open build/docs/index.html"

lock: $(VENV)/.installed-test
	$(INSTALL) uv
	$(RESOLVE) --no-annotate | grep -vE "^(nvidia|cuda|triton)" > constraints.txt

test-lowest: $(VENV)/.installed-test
	$(INSTALL) uv
	$(RESOLVE) --resolution lowest-direct --no-annotate \
		| grep -vE "^(nvidia|cuda|triton)" > $(VENV)/lowest.txt
	$(PYTHON) -m venv $(VENV)/lowest
	$(VENV)/lowest/bin/python -m pip install --quiet -r $(VENV)/lowest.txt
	$(VENV)/lowest/bin/python -m pip install --quiet --no-deps -e .
	$(VENV)/lowest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 30 -m "not slow"

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/.installed
	$(INSTALL) -c constraints.txt -e ".[test,docs]"
	touch $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(VENV)/.installed
	$(INSTALL) -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build docs/generated runs .pytest_cache .ruff_cache
