#!/usr/bin/env bash
# Installs the Debian packages that building and running Corten needs. Quick and harmless when they are there.
# usage: packages.sh build|run|test|python|javascript|conformance ...
. "$(dirname "$0")/env.sh"
want=()
for group in "$@"; do
    case "$group" in
        build) want+=(build-essential clang libclang-dev pkg-config git ca-certificates make) ;;
        run) want+=(procps curl crun runc nftables conntrack iproute2 busybox-static) ;;
        test) want+=(docker-registry skopeo jq etcd-client openssl) ;;
        python) want+=(python3 python3-venv) ;;
        javascript) want+=(nodejs npm) ;;
        conformance) want+=(bind9-dnsutils netcat-openbsd bash) ;;
        *) echo "unknown package group $group" >&2; exit 2 ;;
    esac
done
missing=()
for package in "${want[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
step "installing Debian packages: ${missing[*]}"
[ "$(id -u)" = 0 ] || { echo "run this as root, or install these packages first: ${missing[*]}" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
