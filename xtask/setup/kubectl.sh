#!/usr/bin/env bash
# Builds kubectl from its published Go modules into the cache: the tests drive the cluster with it. A kubectl of the wanted
# version in the cache is kept.
. "$(dirname "$0")/env.sh"
version="$(sed -n 's,.*k8s.io/kubectl v0\.,v1.,p' "$CORTEN_ROOT/e2e/tools/kubectl/go.mod" | head -n 1)"
out="$CORTEN_CACHE/bin/kubectl"
"$out" version --client 2>/dev/null | grep -q "Client Version: $version\$" && exit 0
if ! command -v go >/dev/null || ! go version | awk '{ split(substr($3, 3), v, "."); exit !(v[1] > 1 || v[2] >= 21) }'; then
    # Debian 13 has a Go that can fetch newer toolchains as modules; Debian 12 has one in its backports.
    step "installing Go from Debian"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    if ! apt-get install -y -qq --no-install-recommends golang-1.24-go >/dev/null 2>&1; then
        apt-get install -y -qq --no-install-recommends -t bookworm-backports golang-1.23-go >/dev/null
    fi
    PATH="$(ls -d /usr/lib/go-1.2[1-9]/bin | tail -n 1):$PATH"
fi
step "building kubectl $version (a few minutes, once)"
cd "$CORTEN_ROOT/e2e/tools/kubectl"
v=k8s.io/component-base/version
CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags "-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=35" -o "$out.new" .
mv "$out.new" "$out"
