#!/usr/bin/env bash
# Builds upstream's suite, its runner and the programs of its images from their published Go modules into the cache, where
# `make conformance` finds them. Those of the wanted version are kept.
. "$(dirname "$0")/env.sh"
module="$CORTEN_ROOT/e2e/conformance"
version="$(sed -n 's,.*k8s.io/kubernetes v,v,p' "$module/go.mod" | head -n 1)"
out="$CORTEN_CACHE/conformance"
mkdir -p "$out"
"$CORTEN_ROOT/xtask/setup/kubectl.sh"
ln -sf "$CORTEN_CACHE/bin/kubectl" "$out/kubectl"
[ "$(cat "$out/version" 2>/dev/null)" = "$version" ] && [ -e "$out/localhost.key" ] && exit 0
. "$(dirname "$0")/go.sh"
step "building upstream's suite $version (ten minutes or more, once)"
cd "$module"
export CGO_ENABLED=0 GOFLAGS=-mod=mod
v=k8s.io/component-base/version
flags="-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=35"
for name in agnhost nonewprivs; do
    go build -trimpath -ldflags "-s -w" -o "$out/$name" "k8s.io/kubernetes/test/images/$name"
done
# agnhost serves TLS with a certificate that stands beside its sources.
cp "$(go list -f '{{.Dir}}' k8s.io/kubernetes/test/images/agnhost/porter)"/localhost.{crt,key} "$out/"
chmod u+w "$out"/localhost.*
go build -trimpath -ldflags "-s -w" -o "$out/ginkgo" github.com/onsi/ginkgo/v2/ginkgo
go test -c -trimpath -ldflags "$flags" -o "$out/e2e.test" k8s.io/kubernetes/test/e2e
echo "$version" > "$out/version"
