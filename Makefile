# make run and make test do everything on a fresh machine; see README.md.

MODEL ?= qwen-2.5-0.5b
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LINT_VERSION := v2.15.0
LINT := build/bin/golangci-lint-$(LINT_VERSION)
# What has no C in it, and so can be checked without a C compiler.
PURE := ./hub/... ./schema ./archive ./picture ./chat ./engine ./engine/enginetest ./engine/remote/... ./models/... ./server
FUZZTIME ?= 5s

.PHONY: all serve llama tools peers run test check judges monitoring man lint fuzz soak bench node clean

all: serve

# The engine's library. It is built once; after that plain go build and go test work.
llama:
	@engine/llama/build.sh

peers:
	@engine/llama/build.sh peers

serve: llama
	go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/serve ./cmd/serve

run: serve
	bin/serve $(MODEL)

# Programs that the tests need.
tools:
	@engine/llama/build.sh tools

# The official npm client, for the tests.
node: tools cmd/serve/testdata/node/node_modules

cmd/serve/testdata/node/node_modules: cmd/serve/testdata/node/package-lock.json
	cd cmd/serve/testdata/node && npm ci --silent --no-audit --no-fund
	@touch $@

# Fast packages first. The race detector sees no C, so it watches what has none,
# and the whole program once more.
test: llama node
	go test -race $(PURE)
	go test ./engine/llama ./bench
	go test -race ./cmd/...

# The libraries of PyPI that judge what we do, in an environment of their own.
PYTHON := build/python/bin/python
PYTHON_TESTS := cmd/serve/testdata/python

$(PYTHON): $(PYTHON_TESTS)/requirements.txt
	@engine/llama/build.sh python
	python3 -m venv build/python
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r $(PYTHON_TESTS)/requirements.txt
	@touch $@

judges: llama $(PYTHON)
	TEST_PYTHON=$(CURDIR)/$(PYTHON) go test ./cmd/serve -run 'HuggingFaceHub|ByPython'

$(LINT):
	GOBIN=$(CURDIR)/build/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv build/bin/golangci-lint $@

lint: llama $(LINT)
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	CGO_ENABLED=0 go vet $(PURE)
	go vet ./...
	$(LINT) run

fuzz:
	go test -run '^$$' -fuzz FuzzParseHeader -fuzztime $(FUZZTIME) ./models
	go test -run '^$$' -fuzz FuzzReference -fuzztime $(FUZZTIME) ./models
	go test -run '^$$' -fuzz FuzzListing -fuzztime $(FUZZTIME) ./hub
	go test -run '^$$' -fuzz FuzzDecode -fuzztime $(FUZZTIME) ./picture
	go test -run '^$$' -fuzz FuzzCompile -fuzztime $(FUZZTIME) ./schema
	go test -run '^$$' -fuzz FuzzMessage -fuzztime $(FUZZTIME) ./chat
	go test -run '^$$' -fuzz FuzzAnswerText -fuzztime $(FUZZTIME) ./engine
	go test -run '^$$' -fuzz FuzzReader -fuzztime $(FUZZTIME) ./engine/remote
	go test -run '^$$' -fuzz FuzzRequests -fuzztime $(FUZZTIME) ./server
	go test -run '^$$' -fuzz FuzzAppendString -fuzztime $(FUZZTIME) ./server

# What operators get, judged by Prometheus's own tool.
monitoring:
	@engine/llama/build.sh monitoring
	promtool check rules docs/operations/alerts.yml
	promtool test rules docs/operations/alerts_test.yml
	TEST_PROMTOOL=promtool go test ./server -run 'Dashboard|Metrics'

# Exactly what .ci/run runs.
check: llama node lint fuzz test judges monitoring

# The manual, from the commands' own help: man -l build/man/serve.1
man: serve
	bin/serve man build/man

# Kills the engine and worse for minutes, under 32 clients; make test does it for seconds.
SOAK ?= 5m
soak: llama
	SOAK=$(SOAK) go test ./cmd/serve -run TestSoak -v -timeout 0

# BENCH_MODELS are GGUF files; tools to make large synthetic ones are not part of
# this repository. See docs/performance.md.
bench: serve peers
	go run ./bench $(BENCH_FLAGS) $(BENCH_MODELS)
	go run ./bench/download

clean:
	rm -rf bin build engine/llama/link.go cmd/serve/testdata/node/node_modules
