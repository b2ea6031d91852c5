# make demo: install and search the sample collection.   make test: install and run the tests.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
EXTRAS ?= cpu,eval,train,dev
SAMPLE = engine/sample/documents

.PHONY: install demo test lint coverage clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

demo: install
	$(BIN)/fouille index $(SAMPLE) --collection guide
	$(BIN)/fouille search "quand les ouvriers français ont-ils pu partir à la mer sans perdre leur salaire ?" --collection guide -k 3
	@echo 'Go on with:  $(BIN)/fouille shell --collection guide'

test: install
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

coverage: install
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q --cov --cov-fail-under=90

clean:
	rm -rf $(VENV) build dist *.egg-info
