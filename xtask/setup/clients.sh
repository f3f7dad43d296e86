#!/usr/bin/env bash
# Builds the program that uses a cluster as programs in Go do, from published modules, into the cache. Of the same sources it is
# built once.
. "$(dirname "$0")/env.sh"
module="$CORTEN_ROOT/e2e/tools/clients"
out="$CORTEN_CACHE/bin/go-clients"
sources="$(cat "$module/main.go" "$module/go.mod" "$module/go.sum" | sha256sum | cut -d' ' -f1)"
[ -x "$out" ] && [ "$(cat "$out.sources" 2>/dev/null)" = "$sources" ] && exit 0
. "$(dirname "$0")/go.sh"
step "building the clients in Go (a minute or two, once)"
(cd "$module" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags "-s -w" -o "$out.new" .)
mv "$out.new" "$out"
echo "$sources" > "$out.sources"
