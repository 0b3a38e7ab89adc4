# Two commands: `make lab` opens the course, `make test` tests it. Both set it up first.
#   make lab TORCH=cpu    take PyTorch's CPU build instead of gigabytes of CUDA

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?=
# One thread a process: the tests run side by side, and threads that wait for each other are slow.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# As Jupyter's default, so that the address it prints leads there too.
START := notebooks/00_start_here.ipynb
# Jupyter does not run as root, in a container say, unless it is told to.
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

# pyzbar wraps a library that pip cannot install; the course runs without it, with the other scanners.
ZBAR = { [ "$$(id -u)" = 0 ] && apt-get install -qq -y libzbar0; } >/dev/null 2>&1 \
  || echo "For the scanner pyzbar install zbar: apt-get install libzbar0, or brew install zbar."

.PHONY: lab test build benchmarks mutants lint clean

lab: $(VENV)/.lab
	$(BIN)/python -m jupyter lab $(AS_ROOT) --LabApp.default_url=/lab/tree/$(START)

test: $(VENV)/.dev lint
	$(ONE_THREAD) $(BIN)/python -m pytest tests -n 2 --dist loadfile
	$(ONE_THREAD) $(BIN)/python -m pytest --nbval --nbval-cell-timeout 300 \
	  -n 2 --dist loadfile solutions notebooks

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy course tests

build: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m course build

benchmarks: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m tests.benchmarks

mutants: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m tests.mutants

clean:
	rm -rf $(VENV) build *.egg-info

# The marks are files, so that a second call starts at once and a changed pyproject.toml sets up anew.
$(VENV)/.lab: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "The course needs Python 3.11 or newer; this is " + sys.version.split()[0] + \
	  ". Name another with: make lab PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	$(BIN)/python -m pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
endif
	$(BIN)/python -m pip install -e .
	@$(BIN)/python -c 'import pyzbar.pyzbar' 2>/dev/null || $(ZBAR)
	@touch $@

$(VENV)/.dev: $(VENV)/.lab
	$(BIN)/python -m pip install -e '.[dev]'
	@touch $@
