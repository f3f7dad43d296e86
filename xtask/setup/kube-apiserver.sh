#!/usr/bin/env bash
# Builds upstream's kube-apiserver from its published Go modules into the cache: a test runs it on the store. One of the
# wanted version in the cache is kept.
. "$(dirname "$0")/env.sh"
module="$CORTEN_ROOT/e2e/tools/kube-apiserver"
version="$(sed -n 's,.*k8s.io/kubernetes v,v,p' "$module/go.mod" | head -n 1)"
out="$CORTEN_CACHE/bin/kube-apiserver"
tells "Kubernetes $version" "$out" --version && exit 0
. "$(dirname "$0")/go.sh"
step "building kube-apiserver $version (ten minutes or more, once)"
cd "$module"
v=k8s.io/component-base/version
CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags "-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=35" -o "$out.new" .
mv "$out.new" "$out"
