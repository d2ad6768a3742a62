# Everything from a fresh machine with Python 3.11 or newer: `make train`, `make test`.
# VENV, PYTHON, ARGS and PYTEST_ARGS may be set: make test VENV=/tmp/venv PYTEST_ARGS="-n 4 -m 'not slow'"

VENV ?= .venv
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist worksteal
BIN := $(VENV)/bin
INPUTS := pyproject.toml constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Newest first; 3.14 last, because the library is not tested with it yet. One that cannot make an environment
# (Debian and Ubuntu leave ensurepip to a package of its own) is passed over.
define find_python
found=; bare=; \
for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python python3.14; do \
	command -v "$$python" >/dev/null 2>&1 || continue; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	if "$$python" -c 'import venv, ensurepip' 2>/dev/null; then found=$$python; break; fi; \
	bare=$${bare:-$$python}; \
done; \
if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	echo "error: $$bare cannot make a virtual environment: install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; \
elif [ -z "$$found" ]; then \
	echo "error: Python 3.11 or newer is needed and was not found: install it, or name it with make PYTHON=/path/to/python3." >&2; exit 1; \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help setup dev train test test-portable lint

help: ## Show this help
	@echo "Targets:"
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{printf "%-22s%s\n", $$1, $$2}'
	@echo "Example: make train ARGS=\"--total-steps 20000 --num-seeds 4\""

setup: $(VENV)/.installed ## Prepare the virtual environment in .venv (anew only when what it needs has changed)

dev: $(VENV)/.installed-dev ## The same, with what tests and checks need

train: setup ## Train SAC on HalfCheetah; further flags in ARGS, the last one of a kind wins
	$(BIN)/python experiments/run.py --agent sac --env HalfCheetah $(ARGS)

test: dev ## Run all tests; flags of pytest in PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-portable: dev ## Run the quick tests in the arithmetic of other processors; flags in PORTABLE_ARGS
	$(BIN)/python tests/support/portable.py $(PORTABLE_ARGS)

lint: dev ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.created:
	@$(find_python); echo "Making $(VENV) with $$($$found --version)"; "$$found" -m venv "$(VENV)"
	@touch $@

$(VENV)/.installed: $(INPUTS) | $(VENV)/.created
	@echo "Installing maxent_rl into $(VENV) (a few minutes the first time)"
	@$(INSTALL) --editable ".[tensorboard]"
	@touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(VENV)/.installed
	@echo "Installing what tests and checks need into $(VENV)"
	@$(INSTALL) --editable ".[dev]"
	@touch $@
