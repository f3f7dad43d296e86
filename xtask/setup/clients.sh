#!/usr/bin/env bash
# Makes the clients that the end-to-end tests try, from published packages, in the cache: kubectl of the versions beside ours, Helm
# 3 and 4, kustomize, a program in Go, and the official libraries for Python and JavaScript. What is there of the same sources is kept.
. "$(dirname "$0")/env.sh"
tools="$CORTEN_ROOT/e2e/tools"

# Whether what `name` was made of has these sources still.
fresh() { [ "$(cat "$CORTEN_CACHE/bin/.$1.sources" 2>/dev/null)" = "$2" ] && [ -e "$CORTEN_CACHE/bin/$1" ]; }
sources() { sha256sum "$@" | cut -d' ' -f1 | sha256sum | cut -d' ' -f1; }
made() { echo "$2" > "$CORTEN_CACHE/bin/.$1.sources"; }

# go_tool NAME FOLDER PACKAGE MODFILE [LDFLAGS]
go_tool() {
    local name="$1" folder="$tools/$2" package="$3" modfile="$4" flags="-s -w ${5:-}" files of
    files=("$folder/$modfile" "$folder/${modfile%.mod}.sum")
    [ -e "$folder/main.go" ] && files+=("$folder/main.go")
    of="$(sources "${files[@]}")"
    fresh "$name" "$of" && return
    . "$CORTEN_ROOT/xtask/setup/go.sh"
    step "building $name (a minute or two, once)"
    (cd "$folder" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -modfile="$modfile" -trimpath -ldflags "$flags" -o "$CORTEN_CACHE/bin/$name" "$package")
    made "$name" "$of"
}

go_tool go-clients clients . go.mod
for minor in 33 34 36 37; do
    version="$(sed -n 's,.*k8s.io/kubectl v0\.,v1.,p' "$tools/kubectl/go-1.$minor.mod" | head -n 1)"
    v=k8s.io/component-base/version
    go_tool "kubectl-1.$minor" kubectl . "go-1.$minor.mod" "-X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=$minor"
done
go_tool helm-3 helm-3 helm.sh/helm/v3/cmd/helm go.mod
go_tool helm-4 helm-4 helm.sh/helm/v4/cmd/helm go.mod
go_tool kustomize kustomize sigs.k8s.io/kustomize/kustomize/v5 go.mod

of="$(sources "$tools/python/requirements.txt")"
if ! fresh python-clients "$of"; then
    "$CORTEN_ROOT/xtask/setup/packages.sh" python
    step "installing the client for Python"
    rm -rf "$CORTEN_CACHE/bin/python-clients"
    python3 -m venv "$CORTEN_CACHE/bin/python-clients"
    "$CORTEN_CACHE/bin/python-clients/bin/pip" install -q --disable-pip-version-check -r "$tools/python/requirements.txt"
    made python-clients "$of"
fi

of="$(sources "$tools/javascript/package-lock.json" "$tools/javascript/clients.mjs")"
if ! fresh javascript-clients "$of"; then
    # Node and npm of other origin than Debian are as good.
    command -v npm >/dev/null || "$CORTEN_ROOT/xtask/setup/packages.sh" javascript
    step "installing the client for JavaScript"
    rm -rf "$CORTEN_CACHE/bin/javascript-clients"
    mkdir -p "$CORTEN_CACHE/bin/javascript-clients"
    cp "$tools/javascript/"{package.json,package-lock.json,clients.mjs} "$CORTEN_CACHE/bin/javascript-clients"
    (cd "$CORTEN_CACHE/bin/javascript-clients" && npm ci --no-audit --no-fund --loglevel=error)
    made javascript-clients "$of"
fi
