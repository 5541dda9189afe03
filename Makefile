# make demo: all five on example images, in a minute.  make train-demo: train, evaluate, infer on synthetic data in minutes.  make test: the whole suite.  make test-fast: without what trains.
# make try: a page in the browser to try the five by hand.  make label: serve them with MONAI Label.  make test-label: the server's tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
LABEL := .venv-label
LABEL_BIN := $(LABEL)/bin
WITHOUT_DEPENDENCIES := monailabel==0.8.5 torchvision==0.28.0 pydicom-seg==0.4.1
ARGS ?=

# make coverage: the whole suite, with the share of lines and branches that it runs; below fail_under (setup.cfg) it fails.
# make docs: the documentation as a site, in runs/docs; a warning is an error.
.PHONY: demo try train-demo test test-fast coverage docs label test-label clean

demo: $(VENV)/ready
	$(BIN)/python -m benchmarks.demo

try: $(VENV)/ready-try
	$(BIN)/python -m label_app.try_page $(ARGS)

train-demo: $(VENV)/ready
	$(BIN)/python -m benchmarks.train_demo

test: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

test-fast: $(VENV)/ready-dev
	$(BIN)/python -m pytest -n 2 -m "not training"

coverage: $(VENV)/ready-dev
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n 2 --no-loadscope-reorder
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

docs: $(VENV)/ready-docs
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . runs/docs

label: $(LABEL)/ready
	$(LABEL_BIN)/python -m label_app.examples --out runs/label
	$(LABEL_BIN)/python -m label_app.serve --studies runs/label/studies --bundles runs/label/bundles

test-label: $(LABEL)/ready
	$(LABEL_BIN)/python -m pip install --quiet pytest==9.2.0
	-$(LABEL_BIN)/python -m pip install --quiet playwright==1.65.2
	PYTHONPATH=$(CURDIR)/label_app/shim:$(CURDIR) $(LABEL_BIN)/python -m pytest tests/label tests/test_dicom.py

$(LABEL)/ready: requirements.txt requirements-label.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(LABEL)
	$(LABEL_BIN)/python -m pip install --quiet --upgrade pip
	$(LABEL_BIN)/python -m pip install --quiet -r requirements.txt -r requirements-label.txt
	$(LABEL_BIN)/python -m pip install --quiet --no-deps $(WITHOUT_DEPENDENCIES)
	touch $@

$(VENV)/ready: requirements.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

$(VENV)/ready-try: $(VENV)/ready
	$(BIN)/python -m pip install --quiet -e ".[serve]"
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

$(VENV)/ready-docs: $(VENV)/ready
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) $(LABEL) runs dist bundles/*/eval* bundles/*/data bundles/*/finetuned
