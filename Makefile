# Everything here needs Go and a POSIX shell, and downloads Go modules only, but
# for `make test-proxies`. Run `make` for the list of targets.

GO        ?= go
BIN       := .cache/bin
PROFILE   := .cache/coverage.out
# The least statement coverage of the root module, in percent.
COVER_MIN := 85
COVER_PKG := $(shell $(GO) list ./... | grep -v -e /dialtest$$ -e /memserver$$ | paste -s -d , -)
# How many files of a package may depend on one another in a circle.
CIRCLE_MAX := 7
# For `make bench`, as `.cache/bin/bench -help` lists them: FLAGS='-workloads put -callers 256'.
FLAGS     ?=
# For `make allocs`: anything, to write what calls allocate anew.
WRITE     ?=
# For `make gobench`: which benchmarks, for how long each, and how often.
BENCH     ?= .
BENCHTIME ?= 1s
COUNT     ?= 1
# For `make linear`: how many operations each history has.
OPERATIONS ?= 210000
# For `make exclusion`: how long processes fight over each thing.
FOR       ?= 5m
# For `make test-long`, `test-proxies`, `test-upgrade` and `test-matrix`: which tests, all if empty.
RUN       ?=
# For `make test-matrix`: the versions of etcd.
SERVERS   ?= 3.4 3.5 3.6 3.7

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# The race detector where there is one, and an error where there has to be.
race = @mkdir -p .cache; \
	race=-race; \
	if ! $(GO) list -race unsafe >/dev/null 2>&1; then \
		echo "make $@: the race detector needs a C compiler here (go list -race says why)" >&2; \
		if [ -n "$${CI:-}" ]; then exit 1; fi; \
		echo "make $@: testing WITHOUT the race detector" >&2; \
		race=; \
	fi

# `work` stands for every package of every module in go.work. The profile is
# that of the root module's packages, by the tests of all modules together, so that
# `make cover` needs no second run. Most tests wait for something most of the time,
# so that more of them run at once than there are processors.
.PHONY: test
test: ## run the tests of every module, with the race detector
	$(race); set -x; \
	$(GO) test $$race -p 2 -parallel 6 -timeout 25m -coverpkg=$(COVER_PKG) -coverprofile=$(PROFILE) work

# The tests in files that begin by `//go:build long`.
.PHONY: test-long
test-long: ## run the tests that take too long for every day
	$(GO) test -parallel 2 -timeout 30m -count 1 $$(RUN='$(RUN)' .ci/tagged long)

# With HAProxy and nginx as Debian has them. They are installed where they are
# missing, which root alone may do.
.PHONY: test-proxies
test-proxies: ## run the tests behind HAProxy and nginx, which it installs
	@command -v haproxy >/dev/null && command -v nginx >/dev/null || { \
		set -x; apt-get update && apt-get install -y --no-install-recommends haproxy nginx; }
	$(GO) test -count 1 -timeout 60m -v $$(RUN='$(RUN)' .ci/tagged proxies)

# The members of the cluster before the upgrade are built as for `make test-matrix`.
.PHONY: test-upgrade
test-upgrade: ## upgrade a cluster from etcd 3.6 under watches and mirrors
	@mkdir -p .cache/matrix
	cd internal/servers/etcd36 && GOWORK=off $(GO) build -o "$(CURDIR)/.cache/matrix/etcd36" tool
	ETCD36="$(CURDIR)/.cache/matrix/etcd36" $(GO) test -count 1 -timeout 15m -v $$(RUN='$(RUN)' .ci/tagged upgrade)

# The reference reader of stored values is JavaScript.
.PHONY: test-reader
test-reader: ## have node read the published vectors
	$(GO) test -count 1 -tags node -run TestReferenceReader ./internal/envelope

# Most requests that can travel together do. RUN chooses, as `.ci/batched` prints it.
.PHONY: test-batched
test-batched: ## run the tests on real servers by clients with batching
	ETCD_TEST_BATCHING=1 $(GO) test -count 1 -parallel 6 -timeout 15m -run '$(RUN)' ./internal/integration

# Not part of `make ci`: it takes some minutes for each version. A program of
# yours takes the place of one that is built by ETCD34=/usr/bin/etcd.
.PHONY: test-matrix
test-matrix: ## run the tests that need a server on each version of etcd
	@RUN='$(RUN)' .ci/matrix $(SERVERS)

.PHONY: cover
cover: ## print the root module's coverage in the last `make test`
	@test -f $(PROFILE) || { echo "make cover: run make test first" >&2; exit 1; }
	@total=$$($(GO) tool cover -func=$(PROFILE) | awk '$$1 == "total:" { sub("%", "", $$NF); print $$NF }'); \
	echo "statement coverage of the root module by all tests: $$total % (at least $(COVER_MIN))"; \
	awk -v total="$$total" 'BEGIN { exit !(total >= $(COVER_MIN)) }'

# Ten minutes or so, on a machine that does nothing else.
.PHONY: bench
bench: $(BIN)/bench ## measure beside raw clientv3, into .cache/bench.json
	$(BIN)/bench $(FLAGS)

.PHONY: performance
performance: $(BIN)/bench ## make docs/performance.md of the last `make bench`
	$(BIN)/bench -render

# Without the race detector, under which pools lose what they hold.
.PHONY: allocs
allocs: $(BIN)/bench ## fail if a call allocates more than internal/bench/allocs.txt says
	$(BIN)/bench -allocs $(if $(WRITE),-write)

.PHONY: $(BIN)/bench
$(BIN)/bench:
	@mkdir -p $(BIN)
	@$(GO) build -o $@ ./internal/bench

# One package at a time: nothing else runs while it is measured.
.PHONY: gobench
gobench: ## run Go's benchmarks of single parts: loads, scans, watches, leases, encryption
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -count $(COUNT) -benchmem -p 1 -timeout 60m work

# Two fights at a time. `make test` and `make test-long` have short ones.
.PHONY: exclusion
exclusion: ## have processes fight over locks on a faulty cluster, beside clientv3's
	$(GO) test -tags long -run TestLongFight -count 1 -v -parallel 2 -timeout 120m ./internal/integration \
		-args -exclusion.for $(FOR)

# Ten minutes or so. `make test` checks short histories.
.PHONY: linear
linear: ## check long histories of a faulty cluster for linearizability
	$(GO) test -run TestHistoryThroughFaultsIsLinearizable -count 1 -v -timeout 60m \
		./internal/integration -args -linear.operations $(OPERATIONS)

.PHONY: sample
sample: ## run the sample on an etcd server inside its own process
	$(GO) run ./examples/sample

.PHONY: vet
vet: ## run go vet over all modules
	$(GO) vet work
	$(GO) vet -tags long,proxies,upgrade ./internal/integration/...
	$(GO) vet -tags node ./internal/envelope

.PHONY: lint
lint: $(BIN)/stamp ## run the linters over all modules
	@set -e; for module in $$($(GO) list -m -f '{{.Dir}}'); do \
		echo "golangci-lint in $$module"; \
		(cd "$$module" && "$(CURDIR)/$(BIN)/golangci-lint" run --build-tags long,proxies,upgrade,node --config "$(CURDIR)/.golangci.yml" ./...); \
	done

.PHONY: circles
circles: $(BIN)/stamp ## fail if more files than CIRCLE_MAX depend on one another
	@$(BIN)/circles -max $(CIRCLE_MAX) ./...

.PHONY: fmt
fmt: $(BIN)/stamp ## format the code
	$(BIN)/gofumpt -w .

.PHONY: fmt-check
fmt-check: $(BIN)/stamp ## fail if `make fmt` would change anything
	@out=$$($(BIN)/gofumpt -l .) || exit 1; \
	if [ -n "$$out" ]; then echo "not formatted, run make fmt:"; echo "$$out"; exit 1; fi

# Each module by itself, as those who import it see it. Those of internal/servers
# are left out: nobody imports them, and only make test-matrix downloads them.
.PHONY: tidy-check
tidy-check: ## fail if a go.mod or go.sum isn't tidy
	@set -e; for module in $$($(GO) list -m -f '{{.Dir}}') internal/tools; do \
		echo "go mod tidy -diff in $$module"; \
		(cd "$$module" && GOWORK=off $(GO) mod tidy -diff); \
	done

.PHONY: tools
tools: $(BIN)/stamp ## build the formatter and the linters

$(BIN)/stamp: internal/tools/go.mod internal/tools/go.sum internal/tools/circles/main.go
	@mkdir -p $(BIN)
	cd internal/tools && GOWORK=off $(GO) build -o $(CURDIR)/$(BIN)/ tool
	@touch $@

.PHONY: ci
ci: ## run everything that a change must pass
	.ci/run

.PHONY: clean
clean: ## remove what the targets above have built
	rm -rf .cache
