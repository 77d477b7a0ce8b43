# Everything a newcomer and the CI need; `make` alone lists the targets.

# The virtual environment to make or to use, and the interpreter that makes it.
VENV ?= .venv
PYTHON ?= python3

PY = $(patsubst ~/%,$(HOME)/%,$(VENV))/bin/python

# Threads of torch that wait should sleep: where cores are shared, spinning ones slow each other down.
export OMP_WAIT_POLICY ?= PASSIVE

# TORCH_SPEC, DETECTRON2, ESCNET_BUILD_EXT and FORCE_CUDA reach tools/setup_env.py and setup.py
# through the environment; INSTALL.md describes them.

.DEFAULT_GOAL := help
.PHONY: help setup test cuda-check lint format demo train doctor clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: ## make the environment: VENV=.venv PYTHON=python3 TORCH_SPEC="torch torchvision" DETECTRON2=auto
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.9 or newer is needed, PYTHON=$(PYTHON) is " + sys.version.split()[0] if sys.version_info < (3, 9) else 0)'
	@$(PYTHON) tools/setup_env.py --venv "$(VENV)"

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
	@"$(PY)" -m escnet_d2.doctor

clean: ## remove what builds and tests leave behind; the environment stays
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find escnet_d2 tests tools demo configs projects benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
