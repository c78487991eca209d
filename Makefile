# `make demo` and `make test` need Python >= 3.11 and make, nothing else.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# $(call install,DIRECTORY,EXTRAS,OPTIONS): install the library with these extras, and name each package meanwhile.
# With uv where it is there, with pip where it is not.
define install
@rm -f $@; if command -v uv >/dev/null; then \
  uv pip install --python $(1)/bin/python $(3) --editable '.[$(2)]' && touch $@; \
else \
  { $(1)/bin/python -m pip install --disable-pip-version-check $(3) --editable '.[$(2)]' && touch $@; } | { \
    printf 'Installing wfe-postgres'; n=0; \
    while read -r word package rest; do case "$$word $$package" in \
      Collecting*) [ $$((n % 6)) != 0 ] || echo; n=$$((n + 1)); printf ' %s' "$${package%%[!A-Za-z0-9._-]*}";; \
      'Installing collected') printf '\nUnpacking the packages';; \
    esac; done; echo; }; \
fi; [ -f $@ ]
endef

# $(call environment,DIRECTORY): a virtual environment.
define environment
@if command -v uv >/dev/null; then uv venv --quiet --allow-existing --python '>=3.11' $(1); else \
  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wfe_postgres needs Python 3.11 or later: make PYTHON=python3.12")' && \
  echo 'Creating the virtual environment $(1)' && $(PYTHON) -m venv $(1); \
fi
endef

# What the demo needs: a quarter of the packages that the development tools need.
DEMO := cli,embedded
$(VENV)/.demo: pyproject.toml
	$(call environment,$(VENV))
	$(call install,$(VENV),$(DEMO))

# One environment for everything else.
DEV := cli,embedded,dev
$(VENV)/.made: pyproject.toml
	$(call environment,$(VENV))
	$(call install,$(VENV),$(DEV))

# The lowest versions of the dependencies that pyproject.toml declares.
MINIMUM := $(VENV)-minimum
$(MINIMUM)/.made: pyproject.toml tests/structure/minimum_versions.py
	$(call environment,$(MINIMUM))
	@$(MINIMUM)/bin/python tests/structure/minimum_versions.py > $(MINIMUM)/constraints.txt
	$(call install,$(MINIMUM),$(DEV),--constraint $(MINIMUM)/constraints.txt)

# uWSGI, for one of the fault tests; it is built from source. Where that fails, the test is skipped.
$(VENV)/.uwsgi: $(VENV)/.made
	$(call install,$(VENV),uwsgi)

# The peers that the benchmark compares with.
$(VENV)/.bench: $(VENV)/.made
	$(call install,$(VENV),bench)

# The script that draws the pictures of the documentation. Without npm, the theme loads it from a CDN in the browser.
MERMAID := 11.12.3
$(VENV)/mermaid.min.js: $(VENV)/.made
	@cd $(VENV) && npm pack --silent mermaid@$(MERMAID) >/dev/null && \
	  tar -xzOf mermaid-$(MERMAID).tgz package/dist/mermaid.min.js > $(@F).part && rm mermaid-$(MERMAID).tgz && mv $(@F).part $(@F)

# The demo runs in the complete environment if there is one.
demo: $(or $(wildcard $(VENV)/.made),$(VENV)/.demo) ## orders on a private PostgreSQL; one worker is killed, one is paused
	@$(BIN)/wfe-postgres demo

test: $(VENV)/.made ## the test suite, on a private PostgreSQL (WFE_TEST_DATABASE_URL points it elsewhere)
	@$(BIN)/python -m pytest -n 3 --dist worksteal

test-minimum: $(MINIMUM)/.made ## a part of the suite on the lowest declared versions of SQLAlchemy, psycopg and Alembic
	@$(MINIMUM)/bin/python -m pytest -n 3 --dist worksteal tests/provider tests/conformance tests/migrations \
	  tests/protocol tests/faults/test_deadlines.py tests/faults/test_time_limits.py

test-unit: $(VENV)/.made ## the tests of the pure modules, without a database, in seconds
	@$(BIN)/python -m pytest tests/unit

test-faults: $(VENV)/.made ## the fault tests in their long form, with what was injected and what became of it
	@WFE_FAULTS=long $(BIN)/python -m pytest tests/faults tests/host_faults tests/host_properties tests/services tests/conformance/test_surroundings.py \
	  tests/readme/test_package_index.py

test-mutation: $(VENV)/.made ## breaks the library on purpose, in each of the known ways, and expects a test to fail
	@$(BIN)/python -m tests.mutation

test-walkthrough: $(VENV)/.made ## runs what README, docs/ and the examples show, in a fresh clone, as root and as a normal user
	@$(BIN)/python -m tests.walkthrough

# Side by side where make keeps the output of each together; the longest first.
CHECKS := .mypy .pyright .mkdocs .imports .format .lint
check: $(VENV)/.made ## lint, format, types, import rules, documentation
	@$(MAKE) --no-print-directory $(if $(filter output-sync,$(.FEATURES)),-j --output-sync) $(CHECKS)

.mypy:
	@$(BIN)/mypy
.pyright:
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes wfe_postgres --ignoreexternal
.mkdocs:
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f .mkdocs.yml
.imports:
	@$(BIN)/lint-imports
.format:
	@$(BIN)/ruff format --check .
.lint:
	@$(BIN)/ruff check .

docs: $(VENV)/.made ## the documentation at http://127.0.0.1:8000, built anew when a page changes
	-@$(MAKE) --silent $(VENV)/mermaid.min.js
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict -f .mkdocs.yml

format: $(VENV)/.made ## put the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.bench ## against hand-written psycopg, the Rust algorithm, the ORM and the peers, with fsync on; under 10 minutes
	@$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.bench ## the same in small, under a minute; expect noise
	@$(BIN)/python -m benchmarks --quick

clean: ## remove the environment and everything made
	rm -rf $(VENV) $(MINIMUM) dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: help demo test test-unit test-minimum test-faults test-mutation test-walkthrough check docs format bench bench-quick clean $(CHECKS)
