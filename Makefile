# Each target sets up what it needs: git, make and Python 3.11 or newer are enough.
# What is installed comes from the lock files only, each file checked by its hash.

# The first Python of 3.11 or newer; name another with `make PYTHON=/path/to/python test`.
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=
UV_VERSION := 0.13.9

.PHONY: help demo test fleet faults mutants peers bench simulate check format docs pictures lock catalogues clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    the whole product on made-up data, with an inbox to look at (ARGS=--once ends by itself)"
	@echo "make test    every test"
	@echo "make fleet   what takes minutes: brokers, fail-over, limits, lanes, every look of every page"
	@echo "make faults  break everything on purpose and count every message: docs/reliability.md (an hour)"
	@echo "               a burst of 100,000 events and 50,000 hostile ones: ARGS='--only F1d,F21h'"
	@echo "make mutants  the same on copies of the product with a defect, each of which must be noticed"
	@echo "make peers   the same faults against plain Dramatiq and Celery: bench/peers/RESULTS.md (15 minutes)"
	@echo "make bench   every figure of docs/performance.md: mails a second, beside Celery and Dramatiq,"
	@echo "               events, imports, scans of ten million, forecasts, files (an hour or two, 8 GB of"
	@echo "               disk; needs Postfix's smtp-sink, Redis and RabbitMQ)"
	@echo "make simulate  twenty made-up years against an independent oracle (20 minutes)"
	@echo "make check   format, lint, types, house rules and documentation"
	@echo "make format  format the code and mend what ruff can mend"
	@echo "make docs    write the generated pages of the documentation anew"
	@echo "make pictures  take the pictures of docs/rules.md and docs/console.md anew (needs Chromium or Chrome)"
	@echo "make lock    refresh the lock files to the newest versions that pyproject.toml allows"
	@echo "make clean   remove the environments and caches"

demo: .venv/.stamp-run
	@$(BIN)/duewatch demo $(ARGS)

test: .venv/.stamp-dev
	@$(BIN)/python -m pytest -q -n 2 $(ARGS)

fleet: .venv/.stamp-dev
	@$(BIN)/python -m pytest -q -n 2 -m slow tests/integration tests/faults tests/browser $(ARGS)

faults: .venv/.stamp-dev
	@$(BIN)/python -m tests.faults.suite --write docs/reliability.md $(ARGS)

mutants: .venv/.stamp-dev
	@$(BIN)/python -m tests.faults.suite --mutants --write docs/reliability.md $(ARGS)

peers: .venv-peers/.stamp
	@.venv-peers/bin/python -m bench.peers $(ARGS)

bench: .venv/.stamp-dev .venv-peers/.stamp
	@$(BIN)/python -m bench.send --write docs/performance.md $(ARGS)
	@$(BIN)/python -m bench.places --write docs/performance.md --plot docs/images/places.svg
	@$(BIN)/python -m bench.flame
	@$(BIN)/python -m bench.intake --write docs/performance.md
	@$(BIN)/python -m bench.importing --write docs/performance.md
	@$(BIN)/python -m bench.scan --write docs/performance.md --plot docs/images/scan.svg
	@$(BIN)/python -m bench.forecast --write docs/performance.md
	@$(BIN)/python -m bench.files --write docs/performance.md
	@$(BIN)/python -m bench.smtp
	@$(BIN)/python -m bench.idle

simulate: .venv/.stamp-dev
	@$(BIN)/python -m pytest -q -m slow tests/simulation

check: .venv/.stamp-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/house

format: .venv/.stamp-dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: .venv/.stamp-dev
	@$(BIN)/python -c "from workers.cli.setup import configuration_page as page; print(page(), end='')" > docs/configuration.md
	@$(BIN)/python -c "from workers.cli.rules_page import main; main()" > docs/rules.md
	@$(BIN)/duewatch schemas --out docs/schemas

pictures: .venv/.stamp-dev
	@$(BIN)/python -m tests.pictures $(ARGS)
	@$(BIN)/python -m tests.console_pictures

# The running product's lock takes its versions from the developers', so tests run what is shipped.
catalogues: .venv/.stamp-dev
	@$(BIN)/pybabel -q extract -F templates/console/locale/babel.cfg -k N_ -k t -k say --no-location --sort-output --project=Duewatch --copyright-holder=Duewatch -o .venv/console.pot .
	@$(BIN)/pybabel -q update -i .venv/console.pot -d templates/console/locale -D console --no-wrap --no-fuzzy-matching --ignore-obsolete

lock: .venv-lock/.stamp
	@.venv-lock/bin/uv pip compile pyproject.toml --group build --group dev $(LOCKING) -o requirements-dev.lock
	@.venv-lock/bin/uv pip compile pyproject.toml --group build -c requirements-dev.lock $(LOCKING) -o requirements.lock
	@.venv-lock/bin/uv pip compile pyproject.toml --extra traces --group build -c requirements-dev.lock $(LOCKING) -o requirements-traces.lock
LOCKING = --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"

clean:
	rm -rf .venv .venv-lock .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find schedules workers tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.stamp-venv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer isn't on the PATH: install it, or name it with PYTHON=…" >&2; exit 1; }
	@echo "Setting up .venv (about a minute, once) …"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.stamp-run: requirements.lock pyproject.toml | .venv/.stamp-venv
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/.stamp-dev: requirements-dev.lock pyproject.toml | .venv/.stamp-venv
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# The peers have an environment of their own: nothing of theirs is a dependency of the product.
.venv-peers/.stamp: bench/peers/requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer isn't on the PATH: install it, or name it with PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

.venv-lock/.stamp:
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip --disable-pip-version-check --quiet install uv==$(UV_VERSION)
	@touch $@
