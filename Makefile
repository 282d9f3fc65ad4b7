# Each target works as the first command after a clone. What it needs is installed into .venv, once, and again when
# pyproject.toml has changed. PYTHON=... picks the interpreter that .venv is made from.

PYTHON ?=
PYTEST_ARGS ?=
KVFLOW_CHAOS_MINUTES ?= 60
PYTHONS = $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)
BIN = .venv/bin
READY = .venv/ready
SITE = $(BIN)/sphinx-build -q -E -W --keep-going -d .cache/site-state docs .cache/site

export KVFLOW_CHAOS_MINUTES

.PHONY: help demo test chaos check docs bench bench-quick format build clean

help:
	@echo "make demo         shows three workers, kills one, and gives an account of it; 10 seconds"
	@echo "make test         runs the tests, on real servers of their own; PYTEST_ARGS='-k redis' runs some"
	@echo "make chaos        tries random courses for KVFLOW_CHAOS_MINUTES=60 minutes in all; a failure names its seed"
	@echo "make check        ruff, mypy, pyright, import-linter, and the docs without a warning"
	@echo "make docs         the docs as a site, in .cache/site"
	@echo "make format       ruff's formatting and fixes, applied"
	@echo "make bench        measures kvflow and its peers, and writes docs/performance.md; bench-quick: does that work?"
	@echo "make build        wheel and sdist, in dist/"
	@echo "make clean        removes .venv and whatever the above left"

demo: $(READY)
	@$(BIN)/kvflow demo

test: $(READY)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

# The parts run side by side: four of them the whole time, the others one after the other beside these, the longest first.
# PYTEST_ARGS="-n 0 -k redis" runs some of them alone. A whole run begins without figures.
chaos: $(READY)
	@$(if $(PYTEST_ARGS)$(KVFLOW_CHAOS_SEED),,rm -rf .chaos)
	@$(BIN)/python -m pytest -m chaos -o timeout=0 -n 8 --dist load --maxschedchunk 1 $(PYTEST_ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(SITE)

docs: $(READY)
	$(SITE)
	@echo "open .cache/site/index.html"

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	@$(BIN)/python -m bench
	@$(BIN)/python -m bench.peers
	@$(BIN)/python -m bench.report

bench-quick: $(READY)
	@$(BIN)/python -m bench --quick
	@$(BIN)/python -m bench.peers --quick
	@$(BIN)/python -m bench.plots

build: $(READY)
	$(BIN)/python -m build

clean:
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage*

# The venv module is of no use without ensurepip, which Debian packs apart; virtualenv brings a pip of its own, and
# `pip install --target` is allowed even where the system's Python is not for pip to change. pip 25.1 knows --group.
$(READY): pyproject.toml
	@set -e; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		python=; \
		for each in $(PYTHONS); do \
			if $$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$each; break; fi; \
		done; \
		if [ -z "$$python" ]; then \
			echo "kvflow needs Python 3.11 or later, and none of these is: $(PYTHONS); name one with make PYTHON=..." >&2; exit 1; \
		fi; \
		echo "making .venv with $$($$python --version)"; \
		if $$python -c 'import ensurepip, venv' >/dev/null 2>&1; then \
			$$python -m venv --clear .venv; \
		else \
			$$python -m pip install -qq --upgrade --target .cache/virtualenv virtualenv; \
			PYTHONPATH=.cache/virtualenv $$python -m virtualenv --quiet --clear .venv; \
		fi; \
	fi; \
	echo "installing into .venv"; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --group dev --editable '.[all]'; \
	touch $@
