# Countinghouse. `make help` lists the targets; docs/HACKING.md explains them.
# Everything a target fetches is pinned, comes through the Go, npm and Debian clients, and is cached
# outside the tree (CACHE): a second run fetches nothing.

SHELL         := /bin/bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS     += --no-print-directory
.DELETE_ON_ERROR:

GO       ?= go
BIN      := bin
DIR      ?= .countinghouse
PROGRAMS := countinghouse ingest aggregator reporter
CACHE    := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/countinghouse

GOLANGCI_VERSION := v2.15.0
# By linter and by Go version: a linter built with an older Go refuses newer code.
GOLANGCI_DIR = $(CACHE)/tools/golangci-lint-$(GOLANGCI_VERSION)-$(shell $(GO) env GOVERSION)
GOLANGCI     = $(GOLANGCI_DIR)/golangci-lint

# Static programs: nothing here needs a C library, the engine's is loaded at run time. Linking is three
# times as fast, which the tests do often.
export CGO_ENABLED ?= 0

# The race detector runs where goroutines share memory and no foreign library is loaded; it needs a C
# compiler, so a machine without one tests the same packages without it, and says so.
RACED   := ./internal/control/... ./internal/eventlog/... ./internal/ingest/... ./internal/telemetry/... ./internal/config/...
RACE     = $(if $(shell command -v gcc || command -v clang),-race,)
# Packages are tested in the order in which they are named, a few at a time. The longest begin, or the last of them
# would run alone at the end.
LONGEST := ./test/scenario ./internal/report ./test/kill ./test/shards ./test/rebuild ./test/abuse ./internal/audit ./cmd/countinghouse ./test/logfaults ./test/readme ./test/clickhouse ./test/rights ./test/browser ./test/limits ./internal/reporter/jobs
PLAIN    = $(shell $(GO) list -e $(LONGEST)) $(shell $(GO) list -e ./... | grep -vxFf <($(GO) list -e $(RACED) $(LONGEST)))
TIMEOUT ?= 30m
# Where the totals are also written, for a caller that adds several runs up (.ci/run).
TALLY   ?=

##@ Use

.PHONY: up
up: preflight ## the whole stack with sample data, in the foreground, in ./.countinghouse (DIR=…)
	@echo "building (a few minutes the first time, seconds after that) …"
	@$(GO) build -o $(BIN)/countinghouse ./cmd/countinghouse
	@exec $(BIN)/countinghouse up --demo --dir "$(DIR)"

.PHONY: build
build: preflight ## the four programs, in ./bin
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/ $(PROGRAMS:%=./cmd/%)

.PHONY: deps
deps: ## installs what up and test need beside Go, from Debian, where it is missing
	@tools/preflight install

##@ Prove

# Without vet: the linter runs it over everything already. Without what a debugger reads: each of seventy test programs is
# linked in half of the time.
GOTEST = $(GO) test -json -vet=off -ldflags=-w -timeout $(TIMEOUT)
.PHONY: test
test: preflight-test build ## everything: lint, unit, integration with real servers, system
	@[ -n "$(RACE)" ] || echo "no C compiler on PATH: the race detector is off"
	@$(GO) run ./tools/testsum $(if $(TALLY),-tally "$(TALLY)") -check 'lint=make lint' \
		-- $(GOTEST) $(PLAIN) \
		-- env CGO_ENABLED=$(if $(RACE),1,0) $(GOTEST) $(RACE) $(RACED)

.PHONY: lint
lint: $(GOLANGCI) ## gofmt, golangci-lint, import table and house rules, docs in step with the code
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard -- '*.go')); \
	if [ -n "$$unformatted" ]; then printf 'not formatted (make fmt):\n%s\n' "$$unformatted"; exit 1; fi
	@$(GOLANGCI) run --allow-parallel-runners ./...
	@$(GO) test -count=1 ./internal/arch

.PHONY: real-data
real-data: build ## imports the data sets in DATA=folder and compares every total with its summary
	@[ -n "$(DATA)" ] || { echo "say where the data is: make real-data DATA=../shared/data" >&2; exit 64; }
	@[ -d "$(DATA)" ] || { echo "no such folder: $(DATA)" >&2; exit 64; }
	@COUNTINGHOUSE_DATA="$(abspath $(DATA))" $(GO) run ./tools/testsum $(if $(TALLY),-tally "$(TALLY)") \
		-- $(GO) test -json -count=1 -timeout 30m -tags realdata ./test/realdata/...

.PHONY: soak
soak: build ## the fault tests in full, random kills for SOAK_MINUTES (30)
	@COUNTINGHOUSE_SOAK_MINUTES="$(or $(SOAK_MINUTES),30)" $(GO) run ./tools/testsum \
		-- $(GO) test -json -count=1 -timeout 3h -tags soak ./test/...

.PHONY: screenshots
screenshots: ## pictures of every page, light, dark and phone, in ./screenshots
	@$(GO) test -count=1 -timeout 20m -tags screenshots ./test/browser -run 'TestScreenshots$$' -v

.PHONY: planted
planted: build ## known bugs built into the product, one by one: the fault tests must see each
	@$(GO) run ./tools/testsum -- $(GO) test -json -count=1 -timeout 30m -tags planted ./test/kill -run 'TestPlanted$$'

.PHONY: bench bench-all bench-drain bench-dedup bench-fill bench-store bench-reports
bench: build ## end-to-end load for BENCH_SECONDS (30); writes bench/results/latest.json
	@$(GO) build -o $(BIN)/bench ./bench
	@$(BIN)/bench $(BENCH)
bench-all: build ## every line of the speed table, the large store included (filled once, 13 GB); flags in BENCH
	@$(GO) build -o $(BIN)/bench ./bench
	@$(BIN)/bench all $(BENCH)
bench-drain bench-dedup bench-fill bench-store bench-reports: build
	@$(GO) build -o $(BIN)/bench ./bench
	@$(BIN)/bench $(@:bench-%=%) $(BENCH)

##@ Change

.PHONY: fmt
fmt: $(GOLANGCI) ## formats the code
	@$(GOLANGCI) fmt ./...

.PHONY: generate
generate: ## rewrites the Go of the pages, and docs/reference, from what they are made of
	$(GO) tool templ generate -path internal/reporter/web
	$(GO) tool templ generate -path internal/reporter/signin
	$(GO) run ./tools/reference -write

.PHONY: clean
clean: ## removes ./bin; the data in ./.countinghouse stays
	rm -rf $(BIN)

.PHONY: tools
tools: $(GOLANGCI) ## builds the pinned tools into the cache

$(GOLANGCI):
	@echo "building golangci-lint $(GOLANGCI_VERSION), once, into the cache: a few minutes"
	@mkdir -p "$(GOLANGCI_DIR)"
	@GOBIN="$(GOLANGCI_DIR)" GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

.PHONY: preflight preflight-test
preflight:
	@tools/preflight run
preflight-test:
	@tools/preflight test

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
