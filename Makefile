# Every task of the project. `make help` lists them; each check that CI runs is one of these.
#
# Set-up happens by itself: a target that needs the environment or the compiled modules makes them
# first, and makes them again only when what they are made from has changed.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
# Passed on to what a target runs: make test ARGS="-k deflate -x"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
PYTEST := $(PY) -m pytest
# Test files run side by side in so many processes; 0 runs them in one, as for a debugger.
PARALLEL ?= 2
SIDE_BY_SIDE = $(if $(filter-out 0,$(PARALLEL)),-n $(PARALLEL) --dist loadfile)

# Tests without an event loop, which need not run on both.
LOOPLESS := autobahn_compare benchmarks c_helpers client_handshake codec codec_cython \
  codec_deflate codec_oracles codes combinations conversions cython_example datastructures \
  events exceptions exports handshake http_fields http_head importer kinds limits options paths \
  protocol protocol_opening protocol_random reports requests routing signatures stubs typing

PYX := $(wildcard fastws/_*.pyx)
SOURCES := $(PYX) $(wildcard fastws/*.pxd fastws/*.h)
CHECKED := $(wildcard fastws tests examples docs benchmarks autobahn tools setup.py)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build run test test-browser lint types debug asan coverage autobahn bench bench-peers bench-instructions soak dist clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  PYTHON=python3.12 chooses the interpreter of a new .venv; HOST= and PORT= are those of run;'
	@echo '  ARGS="..." goes to the program that a target runs; PARALLEL=4 runs tests in so many processes.'

build: $(VENV)/.built $(VENV)/.installed ## Make .venv and compile the modules in place

run: build ## Serve the example chat; prints the address to open
	$(BIN)/fastws run examples.chat:app --host $(HOST) --port $(PORT) $(ARGS)

test: build $(VENV)/.dev ## Run the tests, on uvloop and on asyncio's own loop
	FASTWS_TEST_LOOP=uvloop $(PYTEST) -m "not browser" $(SIDE_BY_SIDE) $(ARGS)
	FASTWS_TEST_LOOP=asyncio $(PYTEST) -m "not browser" $(SIDE_BY_SIDE) \
	  $(LOOPLESS:%=--ignore=tests/test_%.py) $(ARGS)

test-browser: build $(VENV)/.dev ## Drive the example chat in headless Chromium
	$(PYTEST) -m browser $(ARGS)

lint: $(VENV)/.dev ## Check style and format with ruff
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: $(VENV)/.dev ## Check types with mypy --strict
	$(BIN)/mypy --strict $(CHECKED)

debug: $(VENV)/.dev ## Run the tests on a build with bounds checks and asserts
	$(PY) tools/variant.py debug -- $(abspath $(PY)) -m pytest -m "not browser and not foreign and not measures" $(SIDE_BY_SIDE) $(ARGS)

asan: $(VENV)/.dev ## Run the tests under AddressSanitizer and UBSan
	$(PY) tools/variant.py asan -- $(abspath $(PY)) -m pytest -m "not browser and not foreign and not measures" $(SIDE_BY_SIDE) -p no:cacheprovider $(ARGS)

coverage: $(VENV)/.dev ## Measure the lines the tests run; 100 % of the codec or it fails
	$(PY) tools/variant.py coverage -- $(abspath $(PY)) tools/coverage_report.py $(SIDE_BY_SIDE) $(ARGS)

autobahn: build $(VENV)/.dev ## Run Autobahn's test suite, as server and as client, strictly
	$(PY) autobahn/run.py all $(ARGS)

bench: build $(VENV)/.dev ## Measure CPU per message against a plain TCP echo
	$(PY) -m benchmarks.bench $(ARGS)

bench-peers: build $(VENV)/.dev benchmarks/build/peers/.installed ## Every workload, for fastws and its peers: RESULTS.md and plots
	$(PY) -m benchmarks.bench --peers $(ARGS)

bench-instructions: build $(VENV)/.dev ## Count the instructions of a message; 3 % off the committed counts is an error
	$(PY) -m benchmarks.instructions $(ARGS)

soak: build $(VENV)/.dev ## Hold 10,000 connections for 10 minutes, with churn and kills
	$(PY) -m benchmarks.soak $(ARGS)

dist: $(VENV)/.dev ## Build the sdist and the wheel, and try both in empty environments
	rm -rf dist
	@mkdir -p build
	$(PY) -m build --outdir dist . > build/dist.log 2>&1 || { cat build/dist.log; exit 1; }
	$(PY) tools/check_dist.py dist

clean: ## Remove everything that is built, .venv excepted
	rm -rf build dist benchmarks/build *.egg-info .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f fastws/*.so fastws/*.c $(VENV)/.built
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A stamp is written last: a run that was interrupted leaves none, and the next one starts over.

$(VENV)/.made: tools/check_machine.py
	@command -v $(PYTHON) > /dev/null || { \
		echo "There is no $(PYTHON) on the PATH: install Python 3.10 or newer, or name it, as in \`make PYTHON=python3.12\`." >&2; \
		exit 1; }
	@$(PYTHON) tools/check_machine.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	@touch $@

$(VENV)/.build-tools: $(VENV)/.made pyproject.toml
	$(PIP) install --group build
	@touch $@

# Sources whose compiled module somebody removed.
MISSING = $(strip $(foreach source,$(PYX),$(if $(wildcard $(source:.pyx=.*.so)),,$(source))))

$(VENV)/.built: $(VENV)/.build-tools $(SOURCES) setup.py $(if $(MISSING),ALWAYS)
	$(PY) setup.py -q build_ext --inplace --parallel 2 $(if $(filter setup.py,$?),--force)
	@touch $@

# The package in place, its dependencies and its command; what is compiled already stays as it is.
$(VENV)/.installed: $(VENV)/.build-tools pyproject.toml | $(VENV)/.built
	$(PIP) install --no-build-isolation --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(PIP) install --group dev
	@touch $@

benchmarks/build/peers/.installed: benchmarks/peers.txt $(VENV)/.made
	$(PY) -m venv benchmarks/build/peers
	benchmarks/build/peers/bin/python -m pip --disable-pip-version-check --quiet install --upgrade pip
	benchmarks/build/peers/bin/python -m pip --disable-pip-version-check --quiet install --requirement benchmarks/peers.txt
	@if command -v npm > /dev/null; then \
		npm install --silent --prefix benchmarks/build/peers $$(sed -n 's/^# npm: //p' benchmarks/peers.txt) \
		&& touch $@; \
	else echo 'There is no npm: ws for Node.js is left out.'; fi

.PHONY: ALWAYS
ALWAYS:
