#!/usr/bin/env bash
# Builds etcdctl 3.5 and 3.6 from their published Go modules into the cache, for the store's tests; the plain one is Debian's
# package etcd-client (3.4 in Debian 12). Those of the wanted versions in the cache are kept.
. "$(dirname "$0")/env.sh"
for minor in 3.5 3.6; do
    module="$CORTEN_ROOT/e2e/tools/etcdctl/v$minor"
    version="$(sed -n 's,.*go.etcd.io/etcd/etcdctl/v3 v,,p' "$module/go.mod")"
    out="$CORTEN_CACHE/bin/etcdctl-$minor"
    tells "etcdctl version: $version" "$out" version && continue
    . "$(dirname "$0")/go.sh"
    step "building etcdctl $version (a minute or two, once)"
    (cd "$module" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags "-s -w" -o "$out.new" .)
    mv "$out.new" "$out"
done
