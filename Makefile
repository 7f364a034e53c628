# make up     set up this machine and bring up a real cluster on it
# make test   set up this machine and pass all tests
# make help   the rest
SHELL := /bin/bash
.DEFAULT_GOAL := build

GO        ?= go
BIN       := $(CURDIR)/bin
LINT      := $(BIN)/golangci-lint
LINT_VERSION := v2.15.0
VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS   := -s -w -X main.version=$(VERSION)
SUDO      := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
FILE      ?= examples/quickstart.yaml

.PHONY: help build up down test unit integration race fuzz bench lint schema deps clean

help: ## what can be made
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

build: ## the binary, ./tenks
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o tenks .

up: build ## set up this machine, bring up examples/quickstart.yaml, say what to try
	$(SUDO) ./tenks host setup
	$(SUDO) ./tenks apply --file $(FILE)
	@$(SUDO) ./tenks status --file $(FILE) --try

down: build ## take the quickstart cluster down again
	$(SUDO) ./tenks destroy --file $(FILE) --yes

deps: ## install what the tests against real services need (Debian, Ubuntu)
	$(SUDO) ./scripts/test-deps

test: deps ## every test, those against real services too (root)
	$(SUDO) env "PATH=$$PATH" CI=$(CI) ./scripts/test

unit: ## tests that need neither root nor services
	$(GO) test ./...

race: ## the same with the race detector
	$(GO) test -race ./...

integration: ## only the tests against real services (root); PKG=./internal/… for some
	$(SUDO) env "PATH=$$PATH" $(GO) test -tags integration -count=1 -p 1 -timeout 20m $(or $(PKG),./...)

fuzz: ## every fuzz target for FUZZTIME (10s) each
	./scripts/fuzz $(or $(FUZZTIME),10s)

bench: ## benchmarks, with ratios measured side by side (root for those on libvirt)
	$(SUDO) env "PATH=$$PATH" $(GO) test -tags integration -run '^$$' -bench . -benchmem -p 1 -timeout 30m $(or $(PKG),./...)

$(LINT):
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

lint: $(LINT) ## golangci-lint, pinned
	$(LINT) run ./...
	$(LINT) run --build-tags integration ./...

schema: ## docs/cluster.schema.json again, from the table of keys
	$(GO) test ./internal/config -run Schema -update

clean: ## what was built here
	rm -rf tenks $(BIN)
