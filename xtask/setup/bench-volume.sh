#!/usr/bin/env bash
# `make bench-volume` behind the build: how latencies of corten-store hold over time, then etcd's. Nothing here passes or fails.
# Arguments go to the measurement (`--help` lists them).
. "$(dirname "$0")/env.sh"
step "building (release)"
cargo build --release --locked --workspace --bin corten --bin corten-store --example bench
"$(dirname "$0")/etcd.sh"
step "loading; about half an hour for each store"
release="$CARGO_TARGET_DIR/release"
"$release/examples/bench" volume --ours "$release/corten-store" --theirs "$CORTEN_CACHE/bin/etcd-3.6" "$@"
