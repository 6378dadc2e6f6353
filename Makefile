# The README's two commands are `make run` and `make test`; each installs what it needs first, and no more.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOR_LAB := .lab/image
DOWNLOAD := $(BIN)/pip download --quiet --no-deps --only-binary=:all: --require-hashes --dest $(FOR_LAB) --requirement

# `make image`: what it is called, and what it is made from, if not from the bases that deploy/Dockerfile names: RUN_BASE=...@sha256:...
IMAGE ?= coroner:$(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' agent/__init__.py)
DOCKER ?= docker
BASES := $(foreach base,BUILD_BASE RUN_BASE,$(if $($(base)),--build-arg $(base)=$($(base))))

.PHONY: run test check bench venv packages lab-image image lock manifests clean

run: $(VENV)/.installed
	$(BIN)/coroner

test: packages venv check
	$(BIN)/pytest

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What the agent costs, beside its budgets, in some three minutes; it takes a C compiler to compare with.
bench: venv
	$(BIN)/python -m tests.bench

# The agent, and the developers' tools beside it.
venv: $(VENV)/.tools

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.tools: $(VENV)/.installed
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --group dev
	touch $@

# What the lab builds the image from, without a network: wheels, and base images of this machine's Python. `make lab-image test` has four
# minutes more of tests, on two processors: without it those of the image are left out.
lab-image: $(FOR_LAB)/.complete

$(FOR_LAB)/.complete: deploy/agent.lock deploy/build.lock tests/lab/guest/bases.py tests/lab/guest/images.py | $(VENV)/.tools
	rm -rf $(FOR_LAB)
	$(DOWNLOAD) deploy/agent.lock
	$(DOWNLOAD) deploy/build.lock
	$(BIN)/python -m tests.lab.guest.bases $(FOR_LAB)
	touch $@

# What the tests run for real. Without root or apt the tests that need them skip and name the missing package.
packages:
	sh tests/packages.sh

# For one architecture; for both: make image DOCKER='docker buildx' FLAGS='--platform linux/amd64,linux/arm64 --push' IMAGE=registry/coroner:tag
image:
	$(DOCKER) build --file deploy/Dockerfile --tag $(IMAGE) $(BASES) \
		--build-arg VERSION=$(lastword $(subst :, ,$(IMAGE))) --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null) $(FLAGS) .

# The image's wheels, with their hashes: of what the agent needs, and of what it is built with. `make lock UPGRADE=--upgrade` takes newer ones.
lock: venv
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --generate-hashes --no-header pyproject.toml --output-file deploy/agent.lock
	$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --generate-hashes --no-header --group image --output-file deploy/build.lock

# The dashboard and the alerts, as objects of Kubernetes.
manifests:
	$(PYTHON) deploy/generate.py

clean:
	rm -rf $(VENV) .lab .mypy_cache .ruff_cache .pytest_cache
