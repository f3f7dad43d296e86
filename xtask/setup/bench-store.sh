#!/usr/bin/env bash
# `make bench-store` behind the build: corten-store beside etcd, taking turns, in tables. Nothing here passes or fails.
# Arguments go to the comparison (`--help` lists them): `xtask/setup/bench-store.sh --members 3 --only put --percent 50`.
. "$(dirname "$0")/env.sh"
step "building (release)"
cargo build --release --locked --workspace --bin corten --bin corten-store --example bench
"$(dirname "$0")/etcd.sh"
step "comparing; about half an hour with all loads"
echo "machine: $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), $(uname -r)"
release="$CARGO_TARGET_DIR/release"
"$release/examples/bench" compare --ours "$release/corten-store" --theirs "$CORTEN_CACHE/bin/etcd-3.6" "$@"
