# Sourced by the other set-up scripts and by the Makefile's recipes: where things that are built once are kept.
# Nothing relies on the cache being there: each script makes what is missing.
set -euo pipefail
CORTEN_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
CORTEN_CACHE="${CORTEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corten}"
mkdir -p "$CORTEN_CACHE/bin"
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
[ -x /usr/local/go/bin/go ] && PATH="/usr/local/go/bin:$PATH"
export PATH="$CORTEN_CACHE/bin:$PATH"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CORTEN_CACHE/target}"
# The version of the bindings decides which library fits them.
rocksdb_sys_version="$(grep -A1 '^name = "librocksdb-sys"' "$CORTEN_ROOT/Cargo.lock" | sed -n 's/^version = "\(.*\)"/\1/p')"
export ROCKSDB_LIB_DIR="$CORTEN_CACHE/rocksdb-$rocksdb_sys_version"
export ROCKSDB_INCLUDE_DIR="$ROCKSDB_LIB_DIR/include"
export ROCKSDB_STATIC=1
step() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
# Whether a program that may be missing tells this among its lines. Not by a pipe into `grep -q`: that ends at the first line that
# fits, and the program, killed while it writes the next, would count as another version.
tells() { local line="$1" all; shift; all="$("$@" 2>/dev/null)" && grep -qx "$line" <<<"$all"; }
