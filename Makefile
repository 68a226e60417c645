# `make` alone lists the targets. All that is needed is Go, Python 3 with pip
# and make; tools are fetched once, pinned by version, into .tools.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

GO      ?= go
PYTHON  ?= python3
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)

ACTIONLINT_VERSION       := v1.7.12
BUF_VERSION              := v1.75.0
GOLANGCI_LINT_VERSION    := v2.15.0
GOVULNCHECK_VERSION      := v1.9.0
HADOLINT_VERSION         := 2.15.1
HELM_VERSION             := v3.22.0
KUBECTL_VALIDATE_VERSION := v0.0.4
KUBE_SCORE_VERSION       := v1.20.0
KUBERNETES_VERSION       := v1.37.1
OPERATOR_VERSION         := v0.90.1
VERSITYGW_VERSION        := v1.8.0

ACTIONLINT       := .tools/actionlint/$(ACTIONLINT_VERSION)/actionlint
BUF              := .tools/buf/$(BUF_VERSION)/buf
GOLANGCI_LINT    := .tools/golangci-lint/$(GOLANGCI_LINT_VERSION)/golangci-lint
GOVULNCHECK      := .tools/govulncheck/$(GOVULNCHECK_VERSION)/govulncheck
HADOLINT         := .tools/hadolint/$(HADOLINT_VERSION)/bin/hadolint
HELM             := .tools/helm/$(HELM_VERSION)/helm
KUBE_SCORE       := .tools/kube-score/$(KUBE_SCORE_VERSION)/kube-score
KUBECTL_VALIDATE := .tools/kubectl-validate/$(KUBECTL_VALIDATE_VERSION)/kubectl-validate
KUBERNETES       := .tools/kubernetes/$(KUBERNETES_VERSION)
OPERATOR         := .tools/prometheus-operator/$(OPERATOR_VERSION)
VERSITYGW        := .tools/versitygw/$(VERSITYGW_VERSION)/versitygw

# Of Kubernetes what tests use, and the kinds of the Prometheus operator.
KUBERNETES_PROGRAMS := $(addprefix $(KUBERNETES)/,kube-apiserver kube-controller-manager kubectl)

# What a run may change: make run DEV_FLAGS='--port-offset 1000',
# make test TESTFLAGS=-short PACKAGES=./xds/..., make fuzz FUZZTIME=5m, make soak MOVES=10000 FAULTS=8h KILLS=1000,
# make simulate SCHEDULES=20000.
DEV_FLAGS ?=
TESTFLAGS ?=
PACKAGES  ?= ./...
FUZZTIME  ?= 20s
BENCH     ?= .
MOVES     ?= 1000
FAULTS    ?= 30m
KILLS     ?= 100
SCHEDULES ?= 1000

# The lowest share of fsm's statements, in percent, that its own tests run.
FSM_COVERAGE := 90
COVERAGE     := coverage.out

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build envoy ## Build and start a whole cluster on this machine
	@exec bin/envoy-control-plane dev $(DEV_FLAGS)

# Without gRPC's own trace pages, for which the linker keeps every method there is.
.PHONY: build
build: ## Build the binaries into bin
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -tags grpcnotrace -trimpath -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/ ./cmd/...

.PHONY: envoy
envoy: ## Fetch the pinned Envoy into .tools
	@$(PYTHON) deploy/local/fetch_envoy.py

.PHONY: envoys
envoys: ## Fetch the older Envoys too, which tests use
	@$(PYTHON) deploy/local/fetch_envoy.py --all >/dev/null

.PHONY: s3
s3: $(VERSITYGW) ## Build the S3 server that tests use into .tools, and print where it is
	@echo $(CURDIR)/$(VERSITYGW)

# Never from the cache, which does not see what the binaries under test are
# made of. Real clusters elect within 450 ms, which two packages under the race
# detector do not leave each other on two cores: those that run clusters have their
# turn one after the other, and all others beside them, as the nicer ones, told of at the end.
CLUSTERS := /(cluster|cmd/ecpbench|deploy/(e2e|faults|statefulset))$$
TEST     := $(GO) test -race -count=1 -p 1 $(TESTFLAGS)

.PHONY: test
test: envoys $(VERSITYGW) $(HELM) ## Run every test under the race detector
	@$(GO) list -export -race $(PACKAGES) >/dev/null
	@all="$$($(GO) list $(PACKAGES))"; rm -f $(COVERAGE); failed=; \
	told="$$(mktemp)"; trap 'kill $$(jobs -p) 2>/dev/null || true; rm -f "$$told"' EXIT; \
	clusters="$$(grep -E '$(CLUSTERS)' <<< "$$all" || true)"; others="$$(grep -Ev '$(CLUSTERS)' <<< "$$all" || true)"; \
	if [[ -n "$$others" ]]; then nice -n 15 $(TEST) -coverprofile=$(COVERAGE) $$others > "$$told" 2>&1 & fi; \
	if [[ -n "$$clusters" ]]; then $(TEST) $$clusters || failed=1; fi; \
	if [[ -n "$$others" ]]; then wait $$! || failed=1; fi; \
	cat "$$told"; [[ -z "$$failed" ]]
	@if [[ -f $(COVERAGE) ]]; then $(MAKE) --no-print-directory coverage; fi

# Without the race detector, under which `make test` runs fewer of them.
.PHONY: simulate
simulate: ## Run SCHEDULES=1000 of faults on whole clusters in simulated time
	CLUSTER_SIM_SCHEDULES=$(SCHEDULES) $(GO) test -count=1 -timeout 12h -run 'TestSimulation$$' ./cluster

# Half an hour, and FAULTS. ECP_FAULTS_SEED=n repeats the schedule of a run
# that has failed.
.PHONY: soak
soak: envoy ## Routes moved under load, simulated clusters, subscribers' schedules, faults for FAULTS=30m, KILLS=100 of the archive's leader
	ECP_SOAK_MOVES=$(MOVES) $(GO) test -count=1 -timeout 30m -run NoRequestFails -v ./deploy/e2e
	@$(MAKE) --no-print-directory simulate SCHEDULES=20000
	ECP_SCHEDULES=2000 $(GO) test -count=1 -timeout 1h -run EventSchedules -v ./api
	ECP_FAULTS_FOR=$(FAULTS) ECP_FAULTS_KILLS=$(KILLS) $(GO) test -count=1 -timeout 24h -run 'Faults|Elect|Archive' -v ./deploy/faults

# The coverage of fsm: a package's own tests alone count for it, generated code does not. Where fsm
# was not among the packages there is nothing to check.
.PHONY: coverage
coverage:
	@{ head -n 1 $(COVERAGE); grep -E '^[^:]*/fsm/[^/]+\.go:' $(COVERAGE) || true; } > $(COVERAGE).fsm
	@if [[ $$(wc -l < $(COVERAGE).fsm) -gt 1 ]]; then \
	  $(GO) tool cover -func=$(COVERAGE).fsm | awk -v least=$(FSM_COVERAGE) '/^total:/ {have = $$3 + 0; \
	    printf "fsm: %.1f %% of the statements covered, more than %d %% wanted\n", have, least; exit have <= least}'; \
	fi
	@rm -f $(COVERAGE).fsm

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Check formatting, import rules and the rest
	$(GOLANGCI_LINT) run
	$(GO) mod tidy -diff

.PHONY: format
format: $(GOLANGCI_LINT) ## Format the sources
	$(GOLANGCI_LINT) fmt

.PHONY: generate
generate: $(BUF) ## Generate code: protobuf messages, the list of Envoy types
	$(BUF) generate
	$(GO) generate ./...

.PHONY: generate-check
generate-check: ## Fail where generated code is not what generate makes
	@sums() { git ls-files -co --exclude-standard '*.pb.go' '*_gen.go' | xargs sha256sum; }; \
	before="$$(sums)"; $(MAKE) --no-print-directory generate; \
	diff <(echo "$$before") <(sums) || { echo "generated code was stale and is now new: commit it"; exit 1; }

.PHONY: helm
helm: $(HELM) ## Build Helm, which tests use, into .tools, and print where it is
	@echo $(CURDIR)/$(HELM)

.PHONY: manifests
manifests: $(HELM) ## Render deploy/k8s from the Helm chart, which takes the alert rules along
	@rm -rf deploy/helm/envoy-control/files/rules
	@if [[ -d deploy/monitoring/rules ]]; then cp -r deploy/monitoring/rules deploy/helm/envoy-control/files/rules; fi
	@HELM=$(HELM) deploy/helm/render.sh deploy/k8s

.PHONY: deploy-check
deploy-check: $(HELM) $(KUBECTL_VALIDATE) $(KUBE_SCORE) $(ACTIONLINT) $(HADOLINT) ## Check the deployment files against Kubernetes' own schemas and good practice, the workflows and the Dockerfile
	@$(ACTIONLINT)
	@$(HADOLINT) Dockerfile
	@HELM=$(HELM) KUBECTL_VALIDATE=$(KUBECTL_VALIDATE) KUBE_SCORE=$(KUBE_SCORE) deploy/helm/check.sh

# Seven minutes on two cores, once: 0.3 GB in .tools, 0.4 GB of modules and what
# the cache of builds has of it.
.PHONY: kubernetes
kubernetes: $(KUBERNETES_PROGRAMS) $(OPERATOR) ## Build Kubernetes, which tests use, into .tools, and print where it is
	@echo $(CURDIR)/$(KUBERNETES)
	@echo $(CURDIR)/$(OPERATOR)

# What takes whole clusters and minutes has the build tag deploy. Debian's
# programs that are missing are installed, which takes root.
.PHONY: deploy-test
deploy-test: envoy $(VERSITYGW) $(HELM) $(KUBERNETES_PROGRAMS) $(OPERATOR) image-test compose-test ## Run the deployment for real: what make test has of it, and what takes longer
	$(GO) test -count=1 -p 1 -timeout 60m -tags deploy $(TESTFLAGS) ./deploy ./deploy/kubernetes ./deploy/monitoring ./deploy/nginx ./deploy/postgres ./deploy/scripts ./deploy/statefulset

.PHONY: vulnerabilities
vulnerabilities: $(GOVULNCHECK) ## Look for known vulnerabilities in what is linked; asks the Go vulnerability database
	$(GOVULNCHECK) ./...

.PHONY: image
image: ## Build the container image
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION="$$(git rev-parse HEAD)" -t envoy-control-plane:$(VERSION) .

# Two minutes. As root, with Debian's buildah and podman, which it installs.
.PHONY: image-test
image-test: ## Build the image without a Docker engine, and run a cluster of it
	@deploy/image/try.sh

# Two minutes. As root, with what Debian has of the images, which it installs.
.PHONY: compose-test
compose-test: ## Run the compose files with podman, on images of the same names
	@deploy/compose/try.sh

.PHONY: bench
bench: ## Run the benchmarks of the packages: BENCH=pattern
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(PACKAGES)

.PHONY: fuzz
fuzz: ## Run each fuzz target for a moment: FUZZTIME=20s
	@grep -rl --include='*_test.go' --exclude-dir=.tools '^func Fuzz' . | sort | while read -r file; do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
	    echo "$$(dirname "$$file") $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" < /dev/null; \
	  done; \
	done

.PHONY: clean
clean: ## Remove what was built; fetched tools and .dev stay
	rm -rf bin $(COVERAGE) $(COVERAGE).fsm

$(ACTIONLINT):
	GOBIN=$(CURDIR)/$(@D) $(GO) install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT_VERSION)

$(BUF):
	GOBIN=$(CURDIR)/$(@D) $(GO) install github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION)

$(GOLANGCI_LINT):
	GOBIN=$(CURDIR)/$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

$(GOVULNCHECK):
	GOBIN=$(CURDIR)/$(@D) $(GO) install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)

$(HADOLINT): deploy/image/hadolint-requirements.txt
	@PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: --upgrade \
	  --target .tools/hadolint/$(HADOLINT_VERSION) --requirement $<
	@touch $@

$(KUBECTL_VALIDATE):
	GOBIN=$(CURDIR)/$(@D) $(GO) install sigs.k8s.io/kubectl-validate@$(KUBECTL_VALIDATE_VERSION)

$(HELM):
	CGO_ENABLED=0 GOBIN=$(CURDIR)/$(@D) $(GO) install -ldflags '-s -w' helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

$(KUBE_SCORE):
	GOBIN=$(CURDIR)/$(@D) $(GO) install github.com/zegl/kube-score/cmd/kube-score@$(KUBE_SCORE_VERSION)

$(KUBERNETES)/%:
	deploy/kubernetes/build.sh $(KUBERNETES_VERSION) $* $@

$(OPERATOR):
	@mkdir -p $(@D) && rm -rf $@.new && mkdir $@.new
	dir="$$(cd $(@D) && $(GO) mod download -json github.com/prometheus-operator/prometheus-operator@$(OPERATOR_VERSION) | sed -n 's/^\t"Dir": "\(.*\)",$$/\1/p')"; \
	  install -m 644 "$$dir"/example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml $@.new
	@mv $@.new $@

$(VERSITYGW):
	CGO_ENABLED=0 GOBIN=$(CURDIR)/$(@D) $(GO) install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)
