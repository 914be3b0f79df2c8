# Everything starts here: `make demo`, `make up`, `make test`, `make check`, `make chaos`, `make bench`.
# A fresh machine needs Python >= 3.11 and make, better also a C compiler; uv is brought along when it is missing.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
UV_VERSION := 0.13.9
ARGS ?=
# where nothing compiled is kept, each process compiles its libraries anew: seconds of a processor at every start
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo up test check chaos bench bench-adaptation clean lock

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: $(VENV)/.installed ## a year of flights through the whole loop, live; ARGS="--until 2013-03-20 --exit"
	$(RUN)/modelbus demo $(ARGS)

up: $(VENV)/.installed ## the stack and the six services, until Ctrl-C
	$(RUN)/modelbus up $(ARGS)

test: $(VENV)/.installed ## unit, contract, integration on real parts, the short loop, the kill test
	$(RUN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

check: $(VENV)/.installed ## formatting, lint, types, import contracts, the lock
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(UV) pip compile -q pyproject.toml --group dev $(LOCK_FLAGS) -o requirements.lock
	git diff --exit-code --stat requirements.lock

chaos: $(VENV)/.installed ## 60 faults over 500,000 events, then the laws; ARGS="--seed 7" repeats a run
	$(RUN)/python -m tests.chaos $(ARGS)

bench: $(VENV)/.installed ## ratios against a ceiling measured in the same run
	$(RUN)/python -m tests.bench $(ARGS)

bench-adaptation: $(VENV)/.installed ## worlds that change: ours beside an oracle and a forest; ARGS="sea-sudden" for one
	$(RUN)/python -m tests.bench.adaptation $(ARGS)

clean: ## forget the environment and caches (not the data under .modelbus)
	rm -rf $(VENV) $(NATIVE) .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

LOCK_FLAGS := --universal --generate-hashes --no-emit-index-url --no-header

lock: $(UV) ## pin all dependencies anew, with hashes
	$(UV) pip compile --upgrade pyproject.toml --group dev $(LOCK_FLAGS) -o requirements.lock

NATIVE := shared/libnative.so

# -O3 makes trees.c slower; no multiplication may be fused with what is added to it
$(NATIVE): $(wildcard shared/*.c)
	@rm -f $@
	$(CC) -O2 -std=c11 -ffp-contract=off -Wall -Wextra -shared -fPIC -o $@ $^ -lm || echo "without a C compiler scorers and ingestors are slower, and tests fail"

$(VENV)/.installed: requirements.lock pyproject.toml | $(UV) $(NATIVE)
	test -x $(RUN)/python || $(UV) venv --python-preference only-system --python ">=3.11,<3.14" $(VENV)
	VIRTUAL_ENV=$(VENV) $(UV) pip sync --require-hashes requirements.lock
	VIRTUAL_ENV=$(VENV) $(UV) pip install --no-deps --no-build-isolation --editable .
	$(RUN)/python -m compose.embedded.warm
	touch $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv || (rm -rf .uv && $(PYTHON) -m pip install --quiet --target .uv uv==$(UV_VERSION))
	test -x $@ || .uv/bin/python -m pip install --quiet uv==$(UV_VERSION)
