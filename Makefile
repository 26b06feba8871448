# The lines that continuous integration runs. Each target sets itself up in .venv first.
PYTHON ?= python3
VENV := .venv/bin
# Processes that share the tests, file by file, with one thread each.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint types format docs dist try-dist licences clean venv venv-test
MAKEFLAGS += --no-print-directory

help:
	@echo 'make demo    segment a photograph and a drawn scene with the embedded model, into demo-output/'
	@echo 'make test    run the tests in two processes;  WORKERS=4 make test  in four'
	@echo 'make lint    check style and formatting (ruff);  make format  mends both'
	@echo 'make types   check types (mypy)'
	@echo 'make docs    build the documentation site into site/'
	@echo 'make dist    build and check the source archive and the wheel, into dist/'
	@echo 'make try-dist  install that wheel in an empty environment, and run its demo there'
	@echo 'make licences  list the licence of every package that make try-dist installed'
	@echo 'make clean   remove caches, build products and demo-output/ (not .venv)'
	@echo 'PYTHON=/path/to/python3.11 chooses the Python that .venv is made with'

demo: venv
	@$(VENV)/conceptseg demo

test: venv-test
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(VENV)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0

lint: venv-test
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .

format: venv-test
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .

types: venv-test
	@$(VENV)/mypy

docs: build/docs/.installed
	@NO_MKDOCS_2_WARNING=1 build/docs/bin/python -m mkdocs build --strict --quiet
	@SITE=site build/docs/bin/python -m pytest --quiet --noconftest tests/docs/test_site.py
	@echo 'site/index.html'

# pip knows dependency groups from 25.1 on.
build/docs/.installed: pyproject.toml
	@'$(PYTHON)' -m venv build/docs
	@build/docs/bin/pip install --quiet --upgrade 'pip>=25.1'
	@build/docs/bin/pip install --quiet --group docs
	@touch $@

# The wheel is built out of the source archive, so both are known to be whole. TAG=v0.2.0 must name their version.
dist: build/tools/.installed
	@rm -rf dist
	@build/tools/bin/python -m build
	@build/tools/bin/twine check --strict dist/*
	@build/tools/bin/check-wheel-contents dist/*.whl
	@test -z '$(TAG)' || test -f 'dist/conceptseg-$(TAG:v%=%).tar.gz' || { echo 'error: $(TAG) is not the version of this code' >&2; exit 2; }

build/tools/.installed:
	@'$(PYTHON)' -m venv build/tools
	@build/tools/bin/pip install --quiet build check-wheel-contents pip-licenses twine
	@touch $@

# As a user has it: outside the clone. EXTRAS='[onnx,serve]' and PACKAGES='torch==2.9.*' choose what is installed.
try-dist:
	@rm -rf build/try
	@'$(PYTHON)' -m venv build/try
	@build/try/bin/pip install --quiet "$$(echo dist/*.whl)$(EXTRAS)" $(PACKAGES)
	@cd build/try && bin/conceptseg demo

licences: build/tools/.installed
	@build/tools/bin/pip-licenses --python build/try/bin/python --with-system --from mixed --order license --format markdown

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
