# What there is to run. Everything lives in .venv, which is made on the first call and again when its inputs change.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
TORCH  := $(shell grep '^torch==' constraints.txt)
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet -c constraints.txt
# Two test processes with one thread each: on two cores that beats one process with two.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.PHONY: help env demo base binding motion representations test check format faults docs clean distclean

help:
	@echo "make demo     fine-tune two objectives on toy edits, evaluate, compare (about ten minutes on two cores)"
	@echo "make base     train the parts of the bundled base from nothing, into runs/ (hours on two cores)"
	@echo "make binding  train and compare what docs/studies/binding.md tells (about an hour on two cores)"
	@echo "make motion   train and compare what docs/studies/motion.md tells (about two hours on two cores)"
	@echo "make representations  train and judge what docs/studies/representations.md tells (hours on two cores)"
	@echo "make test     everything that must hold before a commit: check, then the tests"
	@echo "make check    format, lint, types, import floors"
	@echo "make format   apply the format and the safe lint fixes"
	@echo "make faults   plant one fault at a time and say which tests catch it (ONLY=contrast: some of them)"
	@echo "make docs     build the documentation into site/"
	@echo "make clean    remove caches and built files; distclean removes $(VENV) too"

env: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "relatum needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "no virtual environment could be made; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@echo "installing into $(VENV) (a few minutes the first time) ..."
	@$(PIP) $(TORCH)
	@$(PIP) -e '.[dev,docs]'
	@touch $@

demo: $(READY)
	$(BIN)/relatum demo

base: $(READY)
	for part in autoencoder clip tinyconv text_to_image edit; do $(BIN)/relatum train base_$$part || exit; done

binding: $(READY)
	$(BIN)/python docs/write_binding.py

motion: $(READY)
	$(BIN)/python docs/write_motion.py

representations: $(READY)
	$(BIN)/python docs/write_representations.py

test: check
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --dist worksteal

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --warnings
	PYTHONPATH=src $(BIN)/lint-imports --no-cache

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: $(READY)
	$(TEST_ENV) $(BIN)/python tests/planted_faults.py $(ONLY)

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf site build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf $(VENV)
