# Two commands do everything on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Azurite, Microsoft's emulator of Azure Storage, is installed from npm; Node.js is installed from PyPI.
AZURITE := 3.37.0
# Microsoft's SDKs for ACR that tests drive: Go's and Java's name their versions in go.mod and pom.xml.
SDKS := tests/clients/sdks
SDK_JAVASCRIPT := 1.1.2
HELM := v3.16.4
COSIGN := v2.6.5
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt

.PHONY: help run install test sdks go-clients check bench bench-life bench-collector reference format clean

help:
	@echo "make run         serve on 127.0.0.1:5000, data in ./data"
	@echo "make install     install $(BIN)/portside, nothing else"
	@echo "make test        run every test, with real clients"
	@echo "make sdks        install and build Microsoft's SDKs for ACR, for their tests"
	@echo "make go-clients  build helm, cosign and libtrust with Go, for their tests"
	@echo "make check       lint, types, import directions"
	@echo "make reference   write the tables of settings and metrics in docs/reference"
	@echo "make bench       measure side by side with Debian's docker-registry"
	@echo "make bench-life  measure a registry of a million manifests"
	@echo "make bench-collector  run the collector beside real clients for ten minutes"

run: install
	$(BIN)/portside serve

install: $(VENV)/.installed

# Tests wait for servers a third of the time, so three processes keep two cores busy.
# With CI=true, tests fail instead of being skipped if a server that they need is missing.
test: $(VENV)/.tested-with $(VENV)/.azurite-$(AZURITE) sdks
	scripts/need skopeo podman buildah runc caddy systemd:systemd-analyze 'docker-cli|docker.io:docker' strace docker-registry nginx apache2-utils:htpasswd prometheus:promtool \
		'postgresql:/usr/lib/postgresql/*/bin/postgres'
	CI=true $(BIN)/python -m pytest --numprocesses 3 --dist worksteal

# The tests of Go's and Java's are skipped on machines that lack those languages, or their packages.
sdks: $(VENV)/.sdk-javascript-$(SDK_JAVASCRIPT) \
		$(if $(shell command -v go),$(BIN)/sdk-flow) $(if $(shell command -v mvn),$(VENV)/.sdk-java)

$(BIN)/sdk-flow: $(wildcard $(SDKS)/go/*) | $(VENV)/bin/python
	go build -C $(SDKS)/go -o $(CURDIR)/$@ . || echo "The SDK of Go cannot be built here."

$(VENV)/.sdk-java: $(wildcard $(SDKS)/java/*) | $(VENV)/bin/python
	mvn --quiet --batch-mode --file $(SDKS)/java dependency:copy-dependencies \
		-DoutputDirectory=$(CURDIR)/$(VENV)/sdk-java \
		&& javac -cp '$(VENV)/sdk-java/*' -d $(VENV)/sdk-java $(SDKS)/java/Flow.java \
		&& touch $@ || echo "The SDK of Java cannot be built here."

$(VENV)/.sdk-javascript-$(SDK_JAVASCRIPT): | $(VENV)/.tested-with
	PATH="$(CURDIR)/$(BIN):$$PATH" npm install --prefix $(VENV)/sdk-javascript --no-save \
		--ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error \
		@azure/container-registry@$(SDK_JAVASCRIPT)
	@touch $@

# The tests of these clients are skipped until they are built, which takes minutes and needs Go.
go-clients: $(BIN)/helm $(BIN)/cosign $(BIN)/libtrust

$(BIN)/helm:
	GOBIN=$(CURDIR)/$(BIN) go install helm.sh/helm/v3/cmd/helm@$(HELM)

$(BIN)/cosign:
	GOBIN=$(CURDIR)/$(BIN) go install github.com/sigstore/cosign/v2/cmd/cosign@$(COSIGN)

$(BIN)/libtrust: tests/clients/libtrust/main.go
	cd tests/clients/libtrust && GOBIN=$(CURDIR)/$(BIN) go install .

check: $(VENV)/.linted-with
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.linted-with
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.tested-with
	scripts/need docker-registry wrk apache2-utils:ab curl openssl \
		'postgresql:/usr/lib/postgresql/*/bin/postgres'
	$(BIN)/python -m bench

bench-life: $(VENV)/.tested-with
	scripts/need wrk
	$(BIN)/python -m bench.life

# The test of a few seconds, for longer.
bench-collector: $(VENV)/.tested-with
	scripts/need skopeo buildah
	CI=true COLLECTOR_SECONDS=600 $(BIN)/python -m pytest --timeout 1500 tests/clients/test_collector.py

reference: $(VENV)/.installed
	$(BIN)/python -m scripts.settings_reference
	$(BIN)/python -m scripts.metrics_reference

$(VENV)/bin/python:
	scripts/make-venv $(PYTHON) $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/.tested-with: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.azurite-$(AZURITE): $(VENV)/.tested-with
	PATH="$(CURDIR)/$(BIN):$$PATH" npm install --prefix $(VENV)/azurite --no-save --ignore-scripts \
		--no-audit --no-fund --no-update-notifier --loglevel=error azurite@$(AZURITE)
	@touch $@

$(VENV)/.linted-with: $(VENV)/.tested-with
	$(PIP) --editable '.[test,lint]'
	@touch $@

clean:
	rm -rf $(VENV)
