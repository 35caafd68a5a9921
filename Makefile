# Needs Python 3.11 or newer and make, nothing else. `make PYTHON=python3.12 test` chooses the interpreter.
PYTHON ?= python3
SEED   ?= 0
# Tests run in this many processes of one thread each (small networks lose with more threads); 0 is no extra process.
JOBS   ?= 2
TEST   ?=
BENCH  ?=
BENCH_OUT ?= build/speed.json

VENV   := .venv
BIN    := $(VENV)/bin
LOCKED := $(VENV)/.locked
STAMP  := $(VENV)/.installed
PEERS  := $(VENV)/.integrations
CODE   := qmp_envs qmp_sb3 tests docs $(wildcard benchmarks)

.PHONY: help train test test-all integrations lint type bench bench-page docs pictures gifs lock clean $(VENV)
.DEFAULT_GOAL := help

help:
	@echo "make train      train QMP on the Multistage Reacher (400,000 steps, about 5 minutes on 2 cores)"
	@echo "make test       run the tests"
	@echo "make test-all   also the slow tests and those that download a file, with Ray, trackers and RL Baselines3 Zoo"
	@echo "make lint       ruff, import-linter;   make type   mypy;   make bench   speed, as build/speed.json (pytest-benchmark)"
	@echo "make docs       the site, in build/site;   make pictures, make gifs   its pictures and films"
	@echo "make .venv      only create the virtual environment from requirements.lock"
	@echo "make lock       pin the newest versions that pyproject.toml allows"

$(VENV): $(STAMP)

# A stamp is written last, so an interrupted installation starts over.
$(LOCKED): requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is %d.%d: try make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

$(STAMP): $(LOCKED) pyproject.toml setup.py $(wildcard qmp_sb3/native/src/*)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(PEERS): requirements-integrations.lock $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -r requirements-integrations.lock
	@touch $@

# Ray, Weights & Biases, MLflow and RL Baselines3 Zoo: without them, their tests are skipped.
integrations: $(PEERS)

train: $(STAMP)
	@out=runs/reacher-qmp-$(SEED); n=2; \
	while [ -e "$$out" ]; do out=runs/reacher-qmp-$(SEED)-$$n; n=$$((n + 1)); done; \
	exec $(BIN)/qmp train --env QMP/MultistageReacher-v0 --method qmp --steps 400000 --seed $(SEED) --out "$$out"

test test-all bench bench-page: export OMP_NUM_THREADS = 1

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow and not network" $(TEST)

test-all: $(PEERS)
	$(BIN)/python -m pytest -n $(JOBS) $(TEST)

lint: $(STAMP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/lint-imports

type: $(STAMP)
	$(BIN)/mypy

# BENCH="--only update --rounds 3" measures less. Two results: .venv/bin/pytest-benchmark compare A.json B.json --group-by=group
bench: $(STAMP)
	$(BIN)/python -W ignore -m benchmarks.speed --out $(BENCH_OUT) $(BENCH)

# What docs/performance.md shows, all of it but SBX, which needs an environment of its own.
bench-page: $(STAMP)
	$(BIN)/python -W ignore -m benchmarks.speed --out
	$(BIN)/python -W ignore -m benchmarks.speed --out --only "method action" --only "method update"
	$(BIN)/python -W ignore -m benchmarks.speed.memory --out
	$(BIN)/python -W ignore -m benchmarks.speed.profile --out
	$(BIN)/python -m benchmarks.speed.page

# Warnings are errors. The pages are made first, so that the site is never behind the code.
docs: $(STAMP)
	$(BIN)/python -m docs.generators.environments docs/envs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env --builder html --conf-dir docs \
	  --doctree-dir build/doctrees . build/site
	@echo "build/site/docs/index.html"

# GIFS="--run runs/..." shows a trained run's policies; IDS="QMP/Maze-v0" draws some ids only.
pictures: $(STAMP)
	$(BIN)/python docs/make_pictures.py $(IDS)

gifs: $(STAMP)
	$(BIN)/python docs/make_gifs.py $(GIFS) $(IDS)

# torch's own requirements choose the CUDA packages of the machine, so none of them is pinned here.
TORCH := torch==2.13.0
lock: PIP_FREEZE = build/lock/bin/python -m pip freeze --all --exclude pip --exclude qmp-suite | \
	grep -vE '^(nvidia-|cuda-|triton)' | sed 's/+cpu$$//'
lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet "$(TORCH)" ".[dev,metaworld,robotics]"
	(echo "# Made by 'make lock' with Python 3.11. Covers the extras dev, docs, metaworld, robotics, report and tune."; \
	 $(PIP_FREEZE)) > requirements.lock
	build/lock/bin/python -m pip install --quiet --constraint requirements.lock ".[cluster,track,zoo]"
	(echo "# Made by 'make lock' with Python 3.11: what the extras cluster, track and zoo need beside requirements.lock."; \
	 $(PIP_FREEZE) | grep -vxFf requirements.lock) > requirements-integrations.lock

clean:
	rm -rf $(VENV) build
