# Sourced by the scripts that build tools from Go modules: makes `go` be there, from Debian if it must.
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
