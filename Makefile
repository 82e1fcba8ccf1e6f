# `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# What the tests call, as command:Debian package.
TEST_TOOLS := curl:curl ip:iproute2 ping:iputils-ping tshark:tshark \
	tcpdump:tcpdump chromium:chromium setpriv:util-linux unshare:util-linux cmp:diffutils \
	ethtool:ethtool bpftool:bpftool
# What the C library under the feature `xdp` is built with.
XDP_TOOLS := clang:clang llc:llvm m4:m4 make:make pkg-config:pkg-config \
	/usr/include/gelf.h:libelf-dev /usr/include/pcap.h:libpcap-dev \
	/usr/include/zlib.h:zlib1g-dev
# What the benchmarks call besides; Go comes from PyPI, see benches/run.
BENCH_TOOLS := curl:curl ip:iproute2 wrk:wrk valgrind:valgrind \
	python3:python3 taskset:util-linux sysctl:procps tcpdump:tcpdump tshark:tshark
# What those of AF_XDP call besides.
BENCH_XDP_TOOLS := ethtool:ethtool nginx:nginx-light \
	gcc:gcc xdp-bench:xdp-tools /usr/include/xdp/xsk.h:libxdp-dev \
	/usr/include/bpf/bpf.h:libbpf-dev

# Installs the packages of those commands and files in $(1) that are not there.
define install_missing
missing=(); \
for tool in $(1); do \
	command -v "$${tool%%:*}" >/dev/null || [ -f "$${tool%%:*}" ] || missing+=("$${tool##*:}"); \
done; \
if (( $${#missing[@]} )); then \
	echo "installing $${missing[*]}"; \
	$(SUDO) apt-get update -qq; \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends "$${missing[@]}"; \
fi
endef

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: deps
deps: ## Install what the tests and the feature xdp need (apt-get)
	@$(call install_missing,$(TEST_TOOLS) $(XDP_TOOLS))

.PHONY: deps-bench
deps-bench: ## Install what the benchmarks call (apt-get)
	@$(call install_missing,$(BENCH_TOOLS) $(XDP_TOOLS))

.PHONY: deps-bench-xdp
deps-bench-xdp: deps-bench ## Install what those of AF_XDP call (apt-get)
	@$(call install_missing,$(BENCH_XDP_TOOLS))

.PHONY: build-xdp
build-xdp: ## Build the wirepath command with AF_XDP, optimised
	cargo build --release -p wirepath-tools --features wirepath-tools/xdp

.PHONY: build
build: ## Build the wirepath command, optimised
	cargo build --release -p wirepath-tools

.PHONY: lint
lint: ## Formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p wirepath --all-targets -- -D warnings
	cargo clippy -p wirepath-runtime --all-targets --features $(FEATURES) -- -D warnings
	cargo clippy --workspace --all-targets --features $(XDP) -- -D warnings

# The runtime's traits of other crates.
FEATURES := futures-io,hyper
# AF_XDP, in every crate that knows of it.
XDP := wirepath-driver/xdp,wirepath-tools/xdp,wirepath-tests/xdp

# Every interleaving with at most so many preemptions; without a bound the
# larger models take hours.
LOOM_MAX_PREEMPTIONS ?= 4

.PHONY: loom
loom: ## Model-check the runtime's lock-free parts
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
		LOOM_MAX_PREEMPTIONS=$(LOOM_MAX_PREEMPTIONS) \
		cargo test -p wirepath-runtime --release --lib

# The end-to-end tests need root, or skip; here a skip is a failure.
.PHONY: test
test: deps lint ## Install what tests need, lint, and run all tests
	cargo build --workspace --all-targets --features $(XDP)
	WIREPATH_REQUIRE_LAB=1 cargo test --workspace --features $(XDP)
	cargo test -p wirepath-runtime --features $(FEATURES) --test async_io
	$(MAKE) loom

# Go 1.27, of which only the standard library is needed.
GO ?= go

.PHONY: oracle
oracle: ## Ask Go's net/http anew and record its answers (GO=)
	cd tests/oracle && $(GO) build -o $(CURDIR)/target/oracle .
	WIREPATH_ORACLE=$(CURDIR)/target/oracle \
		cargo test -p wirepath-tests --test oracle -- --ignored --nocapture record
	cd tests/oracle/files && $(GO) run . > vectors.json

# Seconds for each target.
FUZZ_SECONDS ?= 600

.PHONY: fuzz
fuzz: ## Fuzz what reads a peer's bytes (nightly Rust, cargo-fuzz)
	for crate in server tools; do \
		cd $(CURDIR)/$$crate && for target in $$(cargo +nightly fuzz list); do \
			mkdir -p fuzz/corpus/$$target; \
			cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
				-max_total_time=$(FUZZ_SECONDS) -max_len=4096; \
		done; \
	done

.PHONY: demo
demo: ## Follow one request through the fourteen stages
	cargo run --release -- demo

.PHONY: bench
bench: deps-bench build ## Compare with Go, side by side (root)
	benches/run

.PHONY: bench-files
bench-files: deps-bench build ## Send files, beside Go's FileServer (root)
	benches/files

.PHONY: bench-recorder
bench-recorder: deps-bench build ## Measure what the flight recorder costs (root)
	benches/recorder

.PHONY: bench-inspect
bench-inspect: deps-bench build ## Compare `wirepath inspect` with tcpdump and tshark (root)
	benches/inspect

.PHONY: bench-xdp
bench-xdp: deps-bench-xdp build-xdp ## Compare on AF_XDP with Go, hyper, nginx (root)
	benches/run --xdp

.PHONY: bench-forward
bench-forward: deps-bench-xdp ## Compare AF_XDP rings with C and xdp-bench (root)
	cargo build --release -p wirepath-driver --features xdp --example forward
	benches/forward

.PHONY: bench-goroutines
bench-goroutines: ## Compare goroutines with Go's, side by side
	benches/goroutines

.PHONY: bench-spin
bench-spin: deps-bench build ## Quick requests beside handlers that compute (root)
	benches/spin

.PHONY: callgrind
callgrind: deps-bench build ## Count the instructions of a request (root)
	benches/callgrind

.PHONY: clean
clean: ## Remove everything that was built
	cargo clean
