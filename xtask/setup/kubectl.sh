#!/usr/bin/env bash
# Builds kubectl from its published Go modules into the cache: the tests drive the cluster with it. A kubectl of the wanted
# version in the cache is kept.
. "$(dirname "$0")/env.sh"
version="$(sed -n 's,.*k8s.io/kubectl v0\.,v1.,p' "$CORTEN_ROOT/e2e/tools/kubectl/go.mod" | head -n 1)"
out="$CORTEN_CACHE/bin/kubectl"
tells "Client Version: $version" "$out" version --client && exit 0
. "$(dirname "$0")/go.sh"
step "building kubectl $version (a few minutes, once)"
cd "$CORTEN_ROOT/e2e/tools/kubectl"
v=k8s.io/component-base/version
CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags "-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=35" -o "$out.new" .
mv "$out.new" "$out"
