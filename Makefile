# Rawstone. `make demo` and `make test` need Go, make and git, nothing else.
SHELL       := /bin/bash
GO          ?= go
BUILD       := build
BINARIES    := agent collector firmware-sim
FUZZTIME    ?= 20s
MUTATIONS   ?= 1000000
BUILDFLAGS  := -trimpath -ldflags '-s -w'
# The agent talks to one server now and then: HTTP/2 would only weigh.
AGENT_TAGS  := nethttpomithttp2
export CGO_ENABLED := 0

.PHONY: bench bench-agent bench-intake build ceremony-demo chaos clean cluster-test cross demo fuzz lint power-test privacy-audit test test-socketcan

# Binaries for this machine.
build:
	@mkdir -p $(BUILD)
	$(GO) build $(BUILDFLAGS) -tags $(AGENT_TAGS) -o $(BUILD)/ ./agent
	$(GO) build $(BUILDFLAGS) -o $(BUILD)/ ./collector ./firmware-sim

# Binaries for both architectures that cars and servers have.
cross:
	@for arch in amd64 arm64; do \
		mkdir -p $(BUILD)/$$arch && \
		GOOS=linux GOARCH=$$arch $(GO) build $(BUILDFLAGS) -tags $(AGENT_TAGS) -o $(BUILD)/$$arch/ ./agent && \
		GOOS=linux GOARCH=$$arch $(GO) build $(BUILDFLAGS) -o $(BUILD)/$$arch/ ./collector ./firmware-sim || exit 1; \
	done

# One collector, three cars and their agents; Ctrl-C ends it. DEMO_ONCE=1 ends by itself after the first audited stones.
demo: build
	@exec $(BUILD)/firmware-sim demo --bin $(BUILD) $(if $(DEMO_ONCE),--once)

# A ceremony for production keys with three contributors, each a process of its own that takes one file and passes one on. It shows
# the steps and nothing more: one person plays every part on one machine, and the beacons are made up.
ceremony-demo: build
	@set -e; collector=$(abspath $(BUILD)/collector); rm -rf $(BUILD)/ceremony; mkdir -p $(BUILD)/ceremony; cd $(BUILD)/ceremony; \
	$$collector ceremony init --dir transcript; \
	for phase in 1 2; do \
		n=0; \
		for who in alice bob carol; do \
			mkdir -p $$who; file=phase$$phase-00$$n.mpc; n=$$((n+1)); \
			cp transcript/$$file $$who/; \
			echo "$$who: $$($$collector ceremony contribute --in $$who/$$file)"; \
			cp $$who/phase$$phase-00$$n.mpc transcript/; \
		done; \
		beacon=$$(printf '%064d' 2026000$$phase); keys=$$([ $$phase = 1 ] || echo "--keys keys"); \
		$$collector ceremony seal --dir transcript --beacon $$beacon $$keys; \
	done; \
	$$collector ceremony verify --dir transcript --keys keys; \
	echo "keys in $(BUILD)/ceremony/keys: a demonstration by one party with made-up beacons; do not use them, although their lock says production"

# All tests. Suites that need something that is not here say so.
test: cross
	RAWSTONE_BIN=$(abspath $(BUILD))/$$($(GO) env GOARCH) $(GO) test -timeout 15m ./...
	@captures=$${RAWSTONE_CAPTURES:-../shared/captures}; [ -d "$$captures" ] || echo "skipped: real drives; set RAWSTONE_CAPTURES to the folder of captures"
	@[ "$$(id -u)" = 0 ] || echo "skipped: full disks among the faults of TestChaos; run as root, who may mount a small file system"
	@command -v swtpm >/dev/null || echo "skipped: device keys in a TPM; install Debian's swtpm"
	@[ -x /usr/sbin/mosquitto ] || echo "skipped: another MQTT broker; install Debian's mosquitto"
	@ls $${RAWSTONE_POSTGRES_BIN:-/usr/lib/postgresql/*/bin}/initdb >/dev/null 2>&1 || echo "skipped: records in PostgreSQL; install Debian's postgresql, or set RAWSTONE_POSTGRES_BIN to its programs"
	@[ -n "$$RAWSTONE_CAN" ] || echo "skipped: SocketCAN; run make test-socketcan, or set RAWSTONE_CAN to a CAN interface of this machine"

# The tests that need SocketCAN, in an emulated Debian kernel.
test-socketcan:
	@GO="$(GO)" .ci/socketcan

# Three brokers, three ingest workers, two settlers and PostgreSQL on this machine, under load; one of each is killed. CLUSTER=VEHICLESxDAYS@CLAIMS
# a second. `make test` runs a small one.
cluster-test:
	RAWSTONE_CLUSTER=$${CLUSTER:-300x8@60} $(GO) test -count 1 -timeout 30m -v -run '^TestCluster$$' ./collector

# Ten power cuts of an emulated machine: no submission that the spool acknowledged may be lost. CUTS=n for another number.
power-test:
	@GO="$(GO)" .ci/power

# The fault campaign in its long form: 200 agents and 50 collectors killed, a network that alters and falls silent, full disks. With
# RAWSTONE_CHAOS_SEED=n the faults of an earlier run. Full disks need root.
chaos: build
	RAWSTONE_CHAOS=long RAWSTONE_BIN=$(abspath $(BUILD)) $(GO) test -count 1 -timeout 1h -v -run '^(TestChaos|TestReckoning)$$' .
	@GO="$(GO)" .ci/chaos

# Is the noise right, does the budget hold, do intervals keep their word? Lower bounds on ε by Monte Carlo, the noise's law, errors and coverage,
# 10,000 crashes of the budget's ledger, and broken mechanisms that must be caught. `make test` runs a short form.
privacy-audit:
	RAWSTONE_PRIVACY=long $(GO) test -count 1 -timeout 3h -v ./pkg/dp/evidence ./agent/internal/budget/evidence ./agent/internal/budget

lint:
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# Every fuzz target for FUZZTIME each, then MUTATIONS random mutations of a valid claim.
fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done
	RAWSTONE_MUTATIONS=$(MUTATIONS) $(GO) test -count 1 -timeout 2h -v -run '^TestRandomMutations$$' ./pkg/claim

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# What the agent needs to read four full buses: frames lost, CPU, memory, bytes written.
bench-agent: build
	RAWSTONE_BENCH_AGENT=60s RAWSTONE_AGENT=$(abspath $(BUILD)/agent) $(GO) test -count 1 -v -run '^TestAgentUnderLoad$$' .

# What the intake does end to end, on SQLite and on PostgreSQL, beside verification alone; memory with many registered vehicles. It takes
# most of an hour on two cores. RAWSTONE_BENCH_VEHICLES=n registers another number than 100,000.
bench-intake: build
	RAWSTONE_BENCH_INTAKE=$(abspath $(BUILD)) $(GO) test -count 1 -timeout 3h -v -run '^TestIntakeRate$$' .

clean:
	rm -rf $(BUILD)
