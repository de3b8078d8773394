# `make search` runs the main job, `make test` the tests; both make the environment first.
VENV ?= .venv
PYTHON ?= python3
CONFIG ?= examples/digits.yaml

# Without --no-compile pip byte-compiles every dependency, used or not. What is used is compiled when it is
# first imported, and kept even where the environment (many containers) says not to: a search starts some
# ten processes, and each would compile torch anew for seconds.
INSTALL = $(VENV)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt
unexport PYTHONDONTWRITEBYTECODE

.PHONY: search test test-cluster lint types clean

search: $(VENV)/.installed
	$(VENV)/bin/paredown search $(CONFIG)

# Workers begin at different places of the suite and take over from each other at the end, so that most
# files run whole on one of them. One thread of BLAS each: together they have no more cores than that.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest --numprocesses logical --maxprocesses 4 --dist worksteal

# In one process, as tests share clusters of Ray, and a cluster takes both cores of a small machine.
test-cluster: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -m cluster

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed-dev
	$(VENV)/bin/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@# An older Python brings a pip that takes longer over the rest than this one and the rest together.
	$(INSTALL) --upgrade pip
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
