# Needs make, git and Python 3.11 or newer; everything else goes into .venv. AWS needs Node 20 as well.

HOST = 127.0.0.1
PORT = 5000
DATA = data

# The first that runs and is new enough, since a name on the PATH may be an empty shim. `make PYTHON=…` overrides.
PYTHON = $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)
NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11))

RUN = .venv/bin/python -m
# Your own pip configuration (a mirror, a proxy) is honoured: the hashes make sure of what comes.
INSTALL = $(RUN) pip --disable-pip-version-check install --quiet

.PHONY: serve test test-heavy lint bench bench-servers bundle pins clean

# `exec`, so that a signal reaches the server and not a shell in between.
serve: .venv/installed
	@exec $(RUN) elasticpypi serve --host "$(HOST)" --port "$(PORT)" --data "$(DATA)"

# What it needs comes side by side: most of that waits for a network, or runs on one core.
test:
	@$(MAKE) --no-print-directory --jobs=3 lint .peers/installed .venv/system-packages node_modules/.installed
	$(RUN) pytest -m "not heavy" -n 3 --dist loadgroup

# Gigabytes, minutes and measurements of memory; a module's tests one after the other.
test-heavy: .venv/installed-tests .peers/installed .venv/system-packages node_modules/.installed
	EXAMPLES=many $(RUN) pytest -m "heavy or many_examples" -n 2 --dist loadfile

lint: .venv/installed-tests
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	.venv/bin/lint-imports

# Against nginx and other people's indexes; says what it leaves out where nginx or wrk is not there. Then what tokens and
# pages cost, what another index behind ours costs, the static site against dumb-pypi, and the AWS shape: cold starts and
# costs.
bench: .venv/installed-tests .peers/installed .venv/system-packages
	$(RUN) bench.peers
	$(RUN) bench.people
	$(RUN) bench.upstream
	$(RUN) bench.static_site
	$(RUN) bench.aws

# Our app under several WSGI servers.
bench-servers: .venv/installed-tests
	$(RUN) bench.servers

# What `npx sls deploy` puts on Lambda, by itself: .cache/bundle.zip.
bundle: .venv/installed
	$(RUN) deploy.bundle

# The newest releases, in one resolution for every platform and every Python from 3.11 on. Each file is constrained by
# those before it, so that all three install together. Without their extras, pips before 24 call some pins missing.
COMPILE = $(RUN) uv --no-config pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --custom-compile-command "make pins"
pins: .venv/installed-tests
	$(COMPILE) requirements.in --output-file requirements.txt
	$(COMPILE) requirements-local.in --output-file requirements-local.txt
	$(COMPILE) test-requirements.in --output-file test-requirements.txt
	$(COMPILE) peers-requirements.in --output-file peers-requirements.txt

clean:
	rm -rf .venv .peers node_modules .serverless .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each step is done again only when what it depends on has changed.
.venv/created:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		echo "elasticpypi needs Python 3.11 or newer: install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot create virtual environments: install its venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear .venv
	@touch $@

.venv/installed: .venv/created requirements.txt requirements-local.txt
	$(INSTALL) --require-hashes -r requirements.txt -r requirements-local.txt
	@touch $@

# The pinned pip before the rest: for as much as the tests need, the one that an older Python brings takes minutes.
.venv/pip: .venv/installed test-requirements.txt
	@sed -n '/^pip==/,/[^\\]$$/p' test-requirements.txt >.venv/pip.txt
	$(INSTALL) --require-hashes -r .venv/pip.txt
	@touch $@

# The project itself, editable, so that tests find the `elasticpypi` command from any directory. Of what comes with it,
# little is ever imported: bytecode is made when it is, not for all.
.venv/installed-tests: .venv/pip pyproject.toml
	$(INSTALL) --no-compile --require-hashes -r test-requirements.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	$(RUN) pip check
	@touch $@

# `sls` and its plugin, and axe-core. Where there is no npm, tests that need them are skipped; in CI they fail.
node_modules/.installed: package-lock.json
	@if command -v npm >/dev/null; then npm ci --no-audit --no-fund --silent && touch $@; \
	else echo "What needs sls or axe-core is skipped: install Node 20 or newer with npm." >&2; fi

# Other people's indexes and mirrors, which need not agree with us about their dependencies.
.peers/installed: .venv/created peers-requirements.txt | .venv/pip
	"$(PYTHON)" -m venv --clear --without-pip .peers
	$(RUN) pip --python .peers --disable-pip-version-check install --quiet --no-compile --require-hashes \
		-r peers-requirements.txt
	@touch $@

# What tests and benchmarks run and pip cannot install. Where we may not either, tests are skipped, in CI they fail.
PROGRAMS = caddy ceph-mon ceph-osd chromium nginx openssl radosgw systemd-analyze wrk
.venv/system-packages: .venv/created Makefile
	@PATH="$$PATH:/usr/sbin"; \
	missing=$$(for program in $(PROGRAMS); do command -v $$program >/dev/null || echo $$program; done | xargs); \
	if test -z "$$missing"; then touch $@; \
	elif test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq --no-install-recommends \
		$$(echo $$missing | sed s/systemd-analyze/systemd/); then touch $@; \
	else echo "What needs $$missing is skipped: installing them takes root and apt-get." >&2; fi
