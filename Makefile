# Everything a newcomer and the CI need; `make` alone lists the targets.

# The virtual environment to make or to use, and the interpreter that makes it.
VENV ?= .venv
PYTHON ?= python3

# File of the versions to install: those that were tested. Empty for the newest.
CONSTRAINTS ?= constraints.txt
# INSTALL.md describes these; pip, setup.py and tools/install_detectron2.py read the others.
SETTINGS := CONSTRAINTS TORCH_SPEC DETECTRON2 ESCNET_BUILD_EXT FORCE_CUDA CUDA_HOME TORCH_CUDA_ARCH_LIST

ENV := $(patsubst ~/%,$(HOME)/%,$(VENV))
PY := $(ENV)/bin/python
PIP := "$(PY)" -m pip --disable-pip-version-check --no-input
PINS := $(ENV)/escnet-pins.txt
# Spaces in the name of a target need a backslash.
STAMP := $(subst $() ,\ ,$(ENV))/escnet-setup

# Threads of torch that wait should sleep: where cores are shared, spinning ones slow each other down.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup test cuda-check lint format demo train doctor clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP) ## make the environment: VENV=.venv PYTHON=python3 CONSTRAINTS=constraints.txt

# Newer files set up again, another torch included, for the extension fits one torch only; so does
# any setting on make's command line.
ifneq ($(filter command,$(foreach name,$(SETTINGS),$(origin $(name)))),)
.PHONY: $(STAMP)
endif
CSRC := $(shell find escnet_d2/layers/csrc -type f)
TORCH := $(shell ls "$(ENV)"/lib/python*/site-packages/torch/version.py 2>/dev/null | sed 's/ /\\ /g')
LIST_TORCH := $(PIP) list --format=freeze | grep -E '^torch(vision)?=='

# A torch that is there stays, unless TORCH_SPEC asks for another one. No build isolation: Detectron2
# and the extension are compiled for that torch.
$(STAMP): pyproject.toml setup.py tools/install_detectron2.py $(CONSTRAINTS) $(CSRC) $(TORCH)
	@[ -x "$(PY)" ] || $(PYTHON) -c 'import sys; sys.exit("Python 3.9 or newer is needed, PYTHON=$(PYTHON) is " + sys.version.split()[0] if sys.version_info < (3, 9) else 0)'
	@[ -x "$(PY)" ] || $(PYTHON) -m venv "$(ENV)"
	@$(PIP) --version > /dev/null 2>&1 || "$(PY)" -m ensurepip || $(PYTHON) -m pip --python "$(PY)" install pip
	$(PIP) install --quiet 'pip>=21.3' 'setuptools>=77.0.3,<81' wheel
	$(if $(TORCH_SPEC),$(PIP) install $$TORCH_SPEC,$(LIST_TORCH) || $(PIP) install $(CONSTRAINTS:%=-c %) torch torchvision)
	@{ $(LIST_TORCH); cat $(CONSTRAINTS) /dev/null | grep -v '^torch'; } > "$(PINS)" || true
	"$(PY)" tools/install_detectron2.py --quiet -c "$(PINS)"
	$(PIP) install --quiet -c "$(PINS)" --no-build-isolation --editable '.[dev,export]'
	@"$(PY)" -m escnet_d2 doctor
	@touch "$(ENV)/escnet-setup"

# One thread for each process of the tests, of which there are as many as cores: two pools of threads
# on the same cores slow each other down. A file's tests share what they build, so files are dealt out.
test: setup ## run all tests; PYTEST_ARGS="-m 'not slow'" for the quick ones
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} "$(PY)" -m pytest --durations=15 \
		--numprocesses=auto --maxprocesses=8 --dist=loadfile $(PYTEST_ARGS)

cuda-check: setup ## compile the CUDA kernels where nvcc is, fail on register spills
	@"$(PY)" tools/check_cuda_build.py

lint: setup ## check style and format
	@"$(PY)" -m ruff check .
	@"$(PY)" -m ruff format --check .

format: setup ## fix what the linter can fix and format
	@"$(PY)" -m ruff check --fix .
	@"$(PY)" -m ruff format .

demo: setup ## segment the shipped pictures with the shipped ESC-Net, and score it
	@"$(PY)" projects/shapes/run_demo.py

train: setup ## train ESC-Net on the drawn data set `shapes` and evaluate it; TRAIN_ARGS="SEED 2"
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} "$(PY)" train_net.py --config-file escnet_tiny_shapes $(TRAIN_ARGS)

doctor: setup ## print versions, extension state, weights and data sets
	@"$(PY)" -m escnet_d2 doctor

clean: ## remove what builds and tests leave behind; the environment stays
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find escnet_d2 tests tools demo configs projects benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
