#!/usr/bin/env bash
# Builds etcd from its published Go module into the cache: `make bench` measures the store beside it. An etcd of the wanted
# version in the cache is kept.
. "$(dirname "$0")/env.sh"
module="$CORTEN_ROOT/e2e/tools/etcd"
version="$(sed -n 's,.*go.etcd.io/etcd/server/v3 v,,p' "$module/go.mod")"
out="$CORTEN_CACHE/bin/etcd-3.6"
tells "etcd Version: $version" "$out" --version && exit 0
. "$(dirname "$0")/go.sh"
step "building etcd $version (a minute or two, once)"
(cd "$module" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags "-s -w" -o "$out.new" .)
mv "$out.new" "$out"
