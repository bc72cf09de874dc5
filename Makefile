# Mooring: "make help" lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

GO ?= $(shell test/lab/deps --go)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# A number of runs, some seconds: with a time, go test sometimes fails at its end.
FUZZTIME ?= 60000x
# For example: -quick -only '^(snapshot|clone)/'
BENCHFLAGS ?=
# MODELFLAGS: flags of test/model, for example -states 0 for no bound: hours.
# TORTUREFLAGS: flags of test/torture, for example -histories 1 -seed 4711.
# FAULTSFLAGS: flags of test/faults, for example -only silent; docs/reliability.md then does not change.
# SERVER: one server of test/servers, for example ceph; docs/servers.md then does not change.
# HEADS: the kinds of test/servers/heads; docs/scale-out.md changes only with both.
HEADS ?= ganesha kernel
# These packages have tests for the lab, in one process with what they test.
LAB_PKGS ?= ./pkg/beneath ./pkg/copytree ./pkg/mount ./pkg/share ./pkg/provision

LAB := $(CURDIR)/test/lab/run
# For LAB_PKGS only: other tests start programs, which are built without -race. With it, tests take nearly
# twice as long. Programs built with -race do not run under User-Mode Linux 6.1.
LAB_RACE = $(if $(filter 6.%,$(shell $(LAB) --kernel)),,-race)
PROGRAMS = $(CURDIR)/build
EXEC = $(LAB)
LAB_TEST = MOORING_BINARY=$(PROGRAMS)/mooring MOORINGCTL_BINARY=$(PROGRAMS)/mooringctl $(GO) test -count=1 -tags lab -timeout 60m -exec "$(EXEC)"

# put MARK,FROM,PAGE puts a table into a page, between its marks.
put = awk 'FNR == NR {table = table $$0 "\n"; next} \
	/^<!-- $(1) -->/ {print; print ""; printf "%s", table; skip = 1} \
	/^<!-- end -->/ {if (skip) print ""; skip = 0} !skip' $(2) $(3) >build/page.md; cp build/page.md $(3)

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Build

.PHONY: build clean
build: ## Build build/mooring and build/mooringctl, static programs.
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o build/ ./cmd/...

clean: ## Remove build/.
	rm -rf build

##@ Test

.PHONY: test lint unit model torture fuzz coverage test-lab test-packages test-programs test-fat test-torture test-servers test-tls test-kerberos test-selinux sanity monitoring
test: lab-deps lint unit fuzz test-lab test-fat test-servers sanity monitoring demo ## Run everything that CI runs: lint, unit, fuzz, lab, sanity, monitoring, demo.
	@echo "make test: lint, unit, fuzz, test-lab, test-fat, test-servers, sanity, monitoring and demo passed"

lint: ## Check Go code, modules and shell scripts.
	@files=$$("$$($(GO) env GOROOT)/bin/gofmt" -l $(wildcard cmd pkg test)); \
		[ -z "$$files" ] || { printf 'run gofmt on %s\n' $$files; exit 1; }
	$(GO) vet -tags lab,fat,image,e2e ./...
	$(GO) tool staticcheck -tags lab,fat,image,e2e ./...
	$(GO) mod tidy -diff
	cd test/chart && $(GO) vet ./... && $(GO) mod tidy -diff
	@echo shellcheck; shellcheck $$(git grep --untracked -lE '^#!/(usr/)?bin/(env )?(ba)?sh' -- ':!*.go' ':!*.md')

# The chart is outside the module of test/chart: go would not notice its changes, and use cached results.
unit: ## Test without NFS, with the race detector, and the Helm chart.
	$(GO) test -race -timeout 30m ./...
	cd test/chart && $(GO) test -count=1 ./...

model: ## Explore the model of the protocol on the share. MODELFLAGS: -states ...
	nice $(GO) test -count=1 -timeout 10h -v ./test/model -full $(MODELFLAGS)

torture: lab-deps build ## Run 2,000 random histories in the lab, for hours. TORTUREFLAGS: -histories ... -seed ...
	MOORING_LAB_MEM=4G MOORING_LAB_TIMEOUT=86400 $(LAB_TEST) -timeout 24h -v ./test/torture -histories 2000 -at-once 8 $(TORTUREFLAGS)

.PHONY: manifests
manifests: ## Generate the files from the chart: deploy/kubernetes.yaml, the table of its README, golden files.
	cd test/chart && $(GO) test -count=1 . -update

fuzz: ## Fuzz each target for FUZZTIME (60000x).
	@$(GO) test -list '^Fuzz' ./pkg/... | \
		awk '/^Fuzz/ {name[n++] = $$1} /^ok/ {while (n) print name[--n], $$2}' | \
		while read -r name pkg; do \
			echo "$$pkg $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null; \
		done

# Tests and programs write what they reach to COVERAGE. go test sets GOCOVERDIR to a directory of its own
# which the lab cannot write, so that EXEC sets it again. Some programs do not run as root: mode 1777.
coverage: COVERAGE = $(CURDIR)/build/coverage
coverage: COVER = -cover -coverpkg=./cmd/...,./pkg/...
coverage: PROGRAMS = $(COVERAGE)
coverage: EXEC = env GOCOVERDIR=$(COVERAGE)/lab $(LAB)
coverage: lab-deps ## Print which part of each package unit tests and the lab's (LAB_PKGS) reach.
	@rm -rf $(COVERAGE); mkdir -p $(COVERAGE)/{unit,lab}; chmod 1777 $(COVERAGE)/lab
	CGO_ENABLED=0 $(GO) build $(COVER) -o $(COVERAGE) ./cmd/...
	$(GO) test -count=1 -timeout 30m $(COVER) ./... -args -test.gocoverdir=$(COVERAGE)/unit
	status=0; MOORING_LAB_WRITE=$(COVERAGE)/lab $(LAB_TEST) $(COVER) ./test/nfs/... $(LAB_PKGS) -args -test.gocoverdir=$(COVERAGE)/lab || status=$$?; \
		test/coverage $(COVERAGE); exit $$status

# Two guests at a time, as each has one processor.
test-lab: lab-deps build ## Test against a real NFS server, in the lab: test-packages beside test-programs and test-torture.
	$(MAKE) test-packages & packages=$$!; status=0; $(MAKE) test-programs test-torture || status=$$?; \
		wait $$packages || status=$$?; exit $$status

test-packages: lab-deps build ## Test LAB_PKGS in the lab, with the race detector.
	$(LAB_TEST) -p 1 $(LAB_RACE) $(LAB_PKGS)

test-programs: lab-deps build ## Test mooring and mooringctl in the lab.
	$(LAB_TEST) ./test/nfs/...

test-fat: lab-deps build ## Test names on a server with short ones (FAT), in a lab of its own.
	$(LAB_TEST) $(LAB_RACE) -tags lab,fat -run TestShortNames ./pkg/share

test-torture: lab-deps build ## Run 4 random histories in the lab, and those that failed once.
	$(LAB_TEST) ./test/torture -histories 4 -at-once 4

test-servers: servers-programs ## Test against another server than the kernel's, which needs no packages: go-nfs.
	$(SERVERS) go-nfs

.PHONY: servers-programs
SERVERS = MOORING_OSNFS=$(CURDIR)/build/osnfs MOORING_SANITY=$(CURDIR)/build/csi-sanity MOORING_SHARE_TEST=$(CURDIR)/build/share.test \
	MOORING_BINARY=$(CURDIR)/build/mooring MOORINGCTL_BINARY=$(CURDIR)/build/mooringctl build/servers-nfs
servers-programs: lab-deps build
	@GOBIN=$(CURDIR)/build CGO_ENABLED=0 $(GO) install github.com/willscott/go-nfs/example/osnfs@v0.0.4
	@$(GO) build -o build/ github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity
	@$(GO) test -c -tags lab -o build/servers.test ./test/servers
	@$(GO) test -c -tags lab -o build/share.test ./pkg/share
	@$(GO) build -o build/servers-nfs ./test/servers

test-tls: lab-deps build ## Test TLS and mTLS, with a real tlshd, in the lab.
	programs=$$(test/lab/deps --tls) && MOORING_TLS=$$programs MOORING_LAB_KERNEL=uml $(LAB_TEST) $(LAB_RACE) -run TestTLS ./pkg/mount ./test/secure

test-kerberos: lab-deps build ## Test Kerberos, with a KDC, in the lab.
	programs=$$(test/lab/deps --kerberos) && MOORING_KERBEROS=$$programs MOORING_LAB_KERNEL=uml $(LAB_TEST) -run TestKerberos ./test/secure

test-selinux: lab-deps build ## Test SELinux labels, in a lab with SELinux.
	secilc=$$(test/lab/deps --secilc) && MOORING_SECILC=$$secilc MOORING_LAB_KERNEL=uml NFS_UML_KERNEL="lsm=yama,selinux enforcing=0" \
		$(LAB_TEST) $(LAB_RACE) -run TestLabels ./pkg/mount

sanity: lab-deps build ## Run the CSI conformance suite, csi-sanity, in the lab.
	$(LAB_TEST) ./test/sanity/...

monitoring: lab-deps build ## Test dashboard and alerts with a real Prometheus in the lab.
	@test/lab/deps --monitoring
	$(GO) test ./test/monitoring
	$(LAB_TEST) ./test/monitoring

##@ Image

.PHONY: image
image: ## Build build/image-*.tar and server-*.tar for amd64 and arm64, and check them.
	@for arch in amd64 arm64; do test/image/build build/image-$$arch.tar $$arch; test/image/build build/server-$$arch.tar $$arch server; done
	MOORING_IMAGES=$(CURDIR)/build $(GO) test -count=1 -tags image -v ./test/image

##@ Release (docs/release.md)

.PHONY: release test-release
release: ## Make the files of a release in build/release: make release VERSION=0.2.0. COSIGN_KEY signs them.
	deploy/release/release $(VERSION) build/release

test-release: ## Make a release of this commit twice, compare and check it. RELEASE_PARTS="programs images chart": images too.
	RELEASE_PARTS="$(or $(RELEASE_PARTS),programs chart)" $(GO) test -count=1 -timeout 60m -tags image -run TestRelease -v ./test/image

##@ Kubernetes: a real cluster of two nodes, without a virtual machine (test/e2e/cluster; root)

.PHONY: cluster-up cluster-down e2e
cluster-up: ## Build its missing programs (half an hour, once) and start it. KUBERNETES=1.34: an older one.
	@test/e2e/cluster up

cluster-down: ## Stop it.
	@test/e2e/cluster down

e2e: ## Test image, chart, examples and Kubernetes' own suite on it. E2EFLAGS: -run ...
	@test/e2e/cluster status >/dev/null 2>&1 || test/e2e/cluster up
	@test/image/build build/image.tar
	@test/image/build build/server.tar '' server
	MOORING_IMAGE=$(CURDIR)/build/image.tar MOORING_SERVER=$(CURDIR)/build/server.tar $(GO) test -count=1 -tags e2e -timeout 120m -v $(E2EFLAGS) ./test/e2e
ifndef E2EFLAGS
	@$(call put,make e2e,build/conformance.md,docs/conformance.md)
endif

##@ Lab: a real NFS client and server, without root (test/lab/nfs-uml)

.PHONY: demo bench faults servers heads picture lab lab-deps
demo: lab-deps build ## Show a volume's life from beginning to end.
	@$(GO) build -o build/demo ./test/demo
	@[ ! -t 1 ] || export FORCE_COLOR=1; MOORING_BINARY=$(CURDIR)/build/mooring $(LAB) build/demo

bench: lab-deps build ## Measure the cost of operations; print the table, and keep it in build/bench.json.
	@$(GO) build -o build/bench-nfs ./test/bench
	@MOORING_BINARY=$(CURDIR)/build/mooring MOORING_LAB_WRITE=build $(LAB) build/bench-nfs $(BENCHFLAGS)

faults: lab-deps build ## Let one of two servers fail in every way; the table goes into docs/reliability.md.
	@$(GO) build -o build/faults-nfs ./test/faults
	@MOORING_BINARY=$(CURDIR)/build/mooring MOORING_LAB_WRITE=build $(LAB) build/faults-nfs $(FAULTSFLAGS)
ifndef FAULTSFLAGS
	@$(call put,make faults,build/faults.md,docs/reliability.md)
endif

servers: servers-programs ## Test on other NFS servers; the table goes into docs/servers.md. SERVER=ceph: on one.
	@MOORING_SERVERS=$$(test/lab/deps --servers) $(SERVERS) $(SERVER)
ifndef SERVER
	@$(call put,make servers,build/servers.md,docs/servers.md)
endif

heads: lab-deps build ## Let one of two NFS servers over one CephFS fail; the figures go into docs/scale-out.md. HEADS=ganesha: one kind.
	@$(GO) test -c -tags lab -o build/servers.test ./test/servers
	@programs=$$(test/lab/deps --servers); for kind in $(HEADS); do \
		MOORING_SERVERS=$$programs MOORING_HEADS=$$kind MOORING_LAB_WRITE=$(CURDIR)/build MOORING_LAB_MEM=5G MOORING_LAB_TIMEOUT=3600 MOORING_LAB_KERNEL=uml \
			MOORING_BINARY=$(CURDIR)/build/mooring MOORINGCTL_BINARY=$(CURDIR)/build/mooringctl \
			$(LAB) build/servers.test -test.run '^TestHeads$$' -test.v -test.timeout 55m; \
	done
ifeq ($(words $(HEADS)),2)
	@awk 'FNR == 1 && NR > 1 {print ""} {print}' build/heads-ganesha.md build/heads-kernel.md >build/heads.md
	@$(call put,make heads,build/heads.md,docs/scale-out.md)
endif

picture: lab-deps build ## Draw the dashboard from ten minutes in the lab: docs/dashboard.svg.
	@test/lab/deps --monitoring
	@$(GO) build -o build/picture ./test/monitoring/picture
	@MOORING_BINARY=$(CURDIR)/build/mooring MOORING_LAB_WRITE=build $(LAB) build/picture build/dashboard.svg
	@cp build/dashboard.svg docs/dashboard.svg

lab: lab-deps ## Run a command in the lab: make lab CMD='exportfs -v'
	@$(LAB) bash -c "$${CMD:?is what to run: make lab CMD=...}"

lab-deps: ## Install missing dependencies of the lab (Debian; sudo if not root).
	@test/lab/deps
