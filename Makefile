# The lines that continuous integration runs. Each target sets itself up in .venv first.
PYTHON ?= python3
VENV := .venv/bin
# Processes that share the tests, file by file, with one thread each.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint types format docs clean venv venv-test venv-docs
MAKEFLAGS += --no-print-directory

help:
	@echo 'make demo    segment a photograph and a drawn scene with the embedded model, into demo-output/'
	@echo 'make test    run the tests in two processes;  WORKERS=4 make test  in four'
	@echo 'make lint    check style and formatting (ruff);  make format  mends both'
	@echo 'make types   check types (mypy)'
	@echo 'make docs    build the documentation site into site/'
	@echo 'make clean   remove caches, build products and demo-output/ (not .venv)'
	@echo 'PYTHON=/path/to/python3.11 chooses the Python that .venv is made with'

demo: venv
	@$(VENV)/conceptseg demo

test: venv-test
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(VENV)/python -m pytest -n $(WORKERS) --dist loadfile

lint: venv-test
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .

format: venv-test
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .

types: venv-test
	@$(VENV)/mypy

docs: venv-docs
	@NO_MKDOCS_2_WARNING=1 $(VENV)/python -m mkdocs build --strict --quiet
	@echo 'site/index.html'

clean:
	@rm -rf site demo-output .mypy_cache .ruff_cache .pytest_cache build dist
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

define set_up
	@command -v '$(PYTHON)' >/dev/null 2>&1 || { echo 'error: $(PYTHON) was not found; install Python 3.10 to 3.13 or set PYTHON=/path/to/python3.11' >&2; exit 2; }
	@'$(PYTHON)' scripts/setup_venv.py
endef

venv:
	$(set_up)

venv-test:
	$(set_up) test

venv-docs:
	$(set_up) docs
