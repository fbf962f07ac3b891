# On a fresh machine: `make run`, `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# The lock was resolved on 3.11, and the suite runs on it, so that it is taken where it is there. The
# lock's versions have wheels for 3.13 and 3.12 too: else the newest of them. PYTHON=... names another.
PYTHON ?= $(shell for python in python3.11 python3.13 python3.12 python3 python; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && \
  echo $$python && break; done)
RUN := .venv/bin/python run.py
NEEDS_PYTHON = "$(PYTHON)" -c "" 2>/dev/null || { \
  echo "no Python 3.11 to 3.13 here$(if $(PYTHON), by the name $(PYTHON)); install one," \
  "or name it: make PYTHON=/path/to/python" >&2; exit 2; }
TEST := -m pytest -n 2 --dist loadgroup --durations=15
XLA_TEST := .venv-xla/bin/python $(TEST) -q -p no:cacheprovider
PIP := -m pip install --quiet --disable-pip-version-check
# `install ENVIRONMENT ...` as pip does, by uv, which pip brings: it takes a fifth of pip's time
# (experiments/growth). It knows nothing of pip's configuration, so is told. Where it fails pip does it.
UV := uv==0.13.9
UV_OPTIONS = "$${at:-.venv}/bin/python" -m pip config list | \
  sed -nE "s/^.*\.(find-links|index-url|extra-index-url|constraint)='(.*)'$$/\1 \2/p" | \
  sed 's/\\n/ /g' | while read -r name values; do \
    for value in $$values; do echo "--$$name $$value"; done; done
INSTALL = install() { local at=$$1; shift; \
  { "$$at/bin/python" $(PIP) $(UV) && "$$at/bin/uv" pip install --python "$$at/bin/python" \
      --index-strategy unsafe-best-match $$($(UV_OPTIONS)) "$$@"; } || \
  { echo "uv could not install this; pip does" >&2; "$$at/bin/python" $(PIP) "$$@"; }; }; install

.PHONY: help run uv-options grid test results bench peers bench-tpu bench-gpu check check-c chaos mistakes docs format lock clean tpu xla

help: ## this list
	@grep -hE '^[a-z.-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: .venv/run ## set up .venv, train glam_tiny on real text, write its report
	@$(RUN)

grid: .venv/run ## loss against experts at equal FLOPs: 1 (dense), 8, 16, 32, 64
	@$(RUN) -m model.num_experts=1,8,16,32,64

test: .venv/dev .venv/docs ## every test; those of XLA where .venv-xla exists
	@.venv/bin/python $(TEST)
	@if [ -x .venv-xla/bin/python ]; then \
	  echo "in the XLA environment: the model on its torch, and XLA on eight virtual devices"; \
	  export TF_CPP_MIN_LOG_LEVEL=2; $(XLA_TEST) tests/model && \
	  $(XLA_TEST) -m xla tests/engines tests/planning; \
	else echo "XLA tests left out: no .venv-xla here (make xla builds it)"; fi

bench: .venv/bench .venv-peers/ready ## rerun every benchmark of experiments/benchmarks, peers beside ours
	@OMP_NUM_THREADS=1 .venv/bin/python -m experiments.benchmarks

STUDIES ?=
results: .venv/dev ## train every study again, the hours first; STUDIES=cost, or names of some
	@.venv/bin/python -m experiments.results $(STUDIES)

peers: .venv-rivals/ready ## what a user would pick instead, on the same work: who wins each row
	@OMP_NUM_THREADS=1 .venv-rivals/bin/python -m experiments.peers

KILLS ?= 50
SECONDS ?= 3600
DEVICE ?= tpu
bench-tpu: .venv/run ## the first quarter of an hour on a TPU (make tpu first); DEVICE=cpu is a dry run
	@.venv/bin/python -m experiments.tpu_first_hour --device $(DEVICE)

bench-gpu: .venv/run ## the first ten minutes on a GPU; DEVICE=cpu is a dry run
	@.venv/bin/python -m experiments.gpu_first_hour --device $(if $(filter cpu,$(DEVICE)),cpu,gpu)

chaos: .venv/dev ## kill runs at random: is what they leave exact? KILLS=50 SECONDS=3600
	@.venv/bin/python -m experiments.reliability.chaos --kills $(KILLS) --seconds $(SECONDS)

mistakes: .venv/dev ## put mistakes into a copy of the code: does a test turn red?
	@.venv/bin/python -m experiments.reliability.mistakes

check: .venv/dev ## format, lint, floors, types and the fast tests
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/lint-imports --no-cache
	@.venv/bin/pyright
	@.venv/bin/python -m pytest -q -n 2 -m "not slow"

ROUNDS ?= 40
check-c: .venv/dev ## the C kernels against their references, under sanitizers; ROUNDS=40
	@.venv/bin/python -m experiments.check_c --rounds $(ROUNDS)

docs: .venv/docs ## build the documentation into docs/_build/html; a warning is an error
	@.venv/bin/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going --builder html \
	  docs docs/_build/html
	@echo "documentation  docs/_build/html/index.html"

format: .venv/dev ## put the code in the house's form
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

lock: .venv/dev ## resolve the pinned versions anew
	@.venv/bin/python -m pip install --quiet pip-tools
	@for set in "requirements.lock" "requirements-dev.lock --extra dev" \
	    "requirements-tpu.lock --extra tpu" "requirements-bench.lock --extra bench" "requirements-docs.lock --extra docs"; do set -- $$set; \
	  .venv/bin/pip-compile -q --extra embedded $$2 $$3 --strip-extras --no-annotate --no-header \
	    --no-emit-find-links --no-emit-index-url -c <(printf '%s\n' torch==2.13.0 'pytablewriter>=1.2') -o $$1 pyproject.toml && \
	  sed -i 's/+cpu$$//' $$1; done

uv-options:
	@$(UV_OPTIONS)

tpu: .venv/tpu ## add the TPU's compiler (torch_tpu, libtpu, jax; 1.3 GB) to .venv

xla: .venv-xla/ready ## build .venv-xla (torch 2.9 with torch_xla; 7 GB)

clean: ## forget the environments and the caches (runs/ stays)
	rm -rf .venv .venv-xla .venv-peers .venv-rivals cache .pytest_cache .ruff_cache .hypothesis

# Each environment is made anew when its lock changes; the stamp is written last.
.venv/run: requirements.lock
	@$(NEEDS_PYTHON)
	@echo "setting up .venv (half a minute, and the downloads)"
	@[ -x .venv/bin/python ] || $(PYTHON) -m venv .venv
	@$(INSTALL) .venv -r requirements.lock
	@.venv/bin/python $(PIP) --no-deps --editable .
	@touch $@

.venv/dev: requirements-dev.lock .venv/run
	@$(INSTALL) .venv --quiet -r requirements-dev.lock
	@touch $@

.venv/tpu: requirements-tpu.lock .venv/run
	@$(INSTALL) .venv --quiet -r requirements-tpu.lock
	@touch $@

.venv/docs: requirements-docs.lock .venv/run
	@$(INSTALL) .venv --quiet -r requirements-docs.lock
	@touch $@

# torchtitan asks for an older `datasets` than ours, which its layers do not use.
TITAN := torchtitan==0.3.0 spmd-types==0.2.3 triton==3.9.0 tyro==1.0.17 docstring-parser==0.18.0

.venv/bench: requirements-bench.lock .venv/run
	@$(INSTALL) .venv --quiet -r requirements-bench.lock
	@.venv/bin/python $(PIP) --no-deps $(TITAN)
	@touch $@

# Their xxhash is older than ours, with which datatrove's MinHash fails.
.venv-peers/ready: Makefile
	@$(NEEDS_PYTHON)
	@[ -x .venv-peers/bin/python ] || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python $(PIP) datatrove==0.10.1 rensa==0.5.0 xxhash==3.8.2 orjson==3.13.0 \
	  regex==2026.11.19 tokenizers==0.23.3 pyyaml==6.0.4
	@touch $@

# Of its own: torchtitan is installed without what it asks for, and llama.cpp is compiled here.
.venv-rivals/ready: requirements.lock experiments/peers/requirements.txt
	@$(NEEDS_PYTHON)
	@echo "setting up .venv-rivals (llama.cpp is compiled: ten minutes)"
	@[ -x .venv-rivals/bin/python ] || $(PYTHON) -m venv .venv-rivals
	@.venv-rivals/bin/python $(PIP) --progress-bar on -r requirements.lock
	@.venv-rivals/bin/python $(PIP) --no-deps -r experiments/peers/requirements.txt --editable .
	@touch $@

.venv-xla/ready: requirements-xla.txt requirements.lock
	@$(NEEDS_PYTHON)
	@echo "setting up .venv-xla (a few minutes, 7 GB)"
	@[ -x .venv-xla/bin/python ] || $(PYTHON) -m venv .venv-xla
	@grep -v '^torch==' requirements.lock > .venv-xla/others.lock
	@$(INSTALL) .venv-xla -r requirements-xla.txt --editable '.[embedded]' -c .venv-xla/others.lock
	@touch $@
