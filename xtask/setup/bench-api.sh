#!/usr/bin/env bash
# `make bench-api` behind the build: corten-apiserver on corten-store beside upstream's kube-apiserver on etcd, taking turns,
# in a table. Nothing here passes or fails.
# Arguments go to the comparison (`--help` lists them): `xtask/setup/bench-api.sh --percent 5 --turns 1 --only "list of"`.
. "$(dirname "$0")/env.sh"
step "building (release)"
cargo build --release --locked --workspace --bin corten --bin corten-store --bin corten-apiserver --example bench-api
"$(dirname "$0")/etcd.sh"
"$(dirname "$0")/kube-apiserver.sh"
step "comparing; about an hour with all loads"
echo "machine: $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), $(uname -r)"
release="$CARGO_TARGET_DIR/release"
"$release/examples/bench-api" --corten-apiserver "$release/corten-apiserver" --corten-store "$release/corten-store" \
    --kube-apiserver "$CORTEN_CACHE/bin/kube-apiserver" --etcd "$CORTEN_CACHE/bin/etcd-3.6" "$@"
