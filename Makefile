# The verbs of the project. Logic lives in xtask and in `corten` itself; each verb installs what it needs.
# Root is needed where containers, namespaces or packages are touched: up, lab, e2e, test, bench, ci.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
ENV := . xtask/setup/env.sh

.PHONY: help setup-build setup-run setup-test build up down lab test unit fuzz sim check fix tidy e2e e2e-upstream conformance bench bench-store bench-api bench-volume ci

help: ## Show the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-8s %s\n", $$1, $$2 }'

setup-build:
	@xtask/setup/packages.sh build
	@xtask/setup/rocksdb.sh

setup-run:
	@xtask/setup/packages.sh run

setup-test: setup-build setup-run
	@xtask/setup/packages.sh test
	@xtask/setup/kubectl.sh
	@xtask/setup/etcdctl.sh
	@xtask/setup/etcd.sh
	@xtask/setup/clients.sh

build: setup-build ## Build every binary (release)
	@$(ENV); step "building (release)"; cargo build --release --locked --workspace --bin corten

up: build setup-run ## Start a one-machine cluster with the demo on it
	@$(ENV); xtask/setup/up.sh

down: ## Stop the one-machine cluster
	@$(ENV); "$$CARGO_TARGET_DIR/release/corten" down

lab: build setup-run ## Start a cluster of 3 store members and 3 nodes on this machine
	@$(ENV); "$$CARGO_TARGET_DIR/release/corten" lab start --members 3 --nodes 3

# Always the whole workspace, so that every step shares one set of features and nothing is built twice.
unit: setup-test ## Unit and component tests only
	@$(ENV); cargo test --workspace --locked --exclude corten-e2e

# Bounded runs from a fixed seed are part of the unit tests. FUZZ_SECONDS is the time per target and round.
fuzz: setup-build ## Feed changed bytes to every decoder of the store, without end
	@$(ENV); cargo test --workspace --locked --lib --no-run; seed=$$(date +%s); while :; do seed=$$((seed + 1000000000)); \
	  step "seed $$seed"; CORTEN_FUZZ_SEED=$$seed CORTEN_FUZZ_SECONDS=$${FUZZ_SECONDS:-60} cargo test --workspace --locked --lib fuzz:: ; done

e2e: setup-test ## Black-box tests over real processes, containers and kubectl
	@$(ENV); cargo test --workspace --locked --test cli --test 'e2e_*'

e2e-upstream: setup-test ## Upstream's kube-apiserver, built from its module, on the store
	@$(ENV); xtask/setup/kube-apiserver.sh; cargo test --workspace --locked --test cluster -- --ignored upstream
	@xtask/setup/bench-api.sh --answers

conformance: setup-test ## Upstream's own suite against a lab: FOCUS=, SKIP=, CONTENT=json, PROCS=, LOOK=1
	@xtask/setup/packages.sh conformance
	@xtask/setup/conformance.sh
	@xtask/setup/run-conformance.sh

test: setup-test ## All tests: unit, component and e2e
	@$(ENV); cargo test --workspace --locked --no-fail-fast

# The same features as every other step, so that nothing is built twice; only the store has tests of this name.
sim: setup-test ## Simulate store clusters: SEEDS=n of them, or without end; SEED=n one again
	@$(ENV); CORTEN_SIM_SEED="$(SEED)" CORTEN_SIM_SEEDS="$(SEEDS)" CORTEN_SIM_FROM="$(FROM)" cargo test --workspace --locked --lib -- sim::runs::more_seeds_hold --exact --ignored --nocapture

check: setup-build ## Format, lints, tidy: never writes
	@$(ENV); cargo fmt --all --check; cargo clippy --workspace --all-targets --locked -- -D warnings; cargo run -q --locked -p xtask -- tidy; cargo run -q --locked -p xtask -- deps

fix: setup-build ## What check wants, written
	@$(ENV); cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged; cargo fmt --all

bench: setup-test ## Measure this machine and print the figures
	@$(ENV); xtask/setup/bench.sh

# Three runs: without TLS, with it, and on a million keys; or one, with what ARGS asks for.
bench-store: setup-test ## Measure the store beside etcd, load by load; ARGS="--members 3 --only put" for a part
	@$(ENV); if [ -n "$(ARGS)" ]; then xtask/setup/bench-store.sh $(ARGS); else xtask/setup/bench-store.sh; \
	  xtask/setup/bench-store.sh --tls; xtask/setup/bench-store.sh --keys 1000000 --members 1; fi

bench-api: setup-test ## Measure the API server beside upstream's kube-apiserver on etcd; ARGS="--percent 5 --turns 1" for less
	@$(ENV); xtask/setup/bench-api.sh $(ARGS)

bench-volume: setup-test ## Latencies of the store while 20 GiB are loaded, compacted and snapshotted; ARGS="--gib 3 --live-gib 1" for less
	@$(ENV); xtask/setup/bench-volume.sh $(ARGS)

ci: check test ## What CI runs
