#!/usr/bin/env bash
# Builds RocksDB once as a static library into the cache, so that every profile, test and CI run links the same one.
# It takes 10 to 20 minutes on two cores; all later builds take none of it.
. "$(dirname "$0")/env.sh"
[ -f "$ROCKSDB_LIB_DIR/librocksdb.a" ] && exit 0
step "building RocksDB once (10 to 20 minutes on two cores), kept in $ROCKSDB_LIB_DIR"
work="$CORTEN_CACHE/rocksdb-build"
mkdir -p "$work/src"
: > "$work/src/lib.rs"
cat > "$work/Cargo.toml" <<TOML
[package]
name = "rocksdb-build"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
librocksdb-sys = { version = "=${rocksdb_sys_version%%+*}", default-features = false, features = ["lz4", "zstd", "bindgen-runtime", "static"] }
[profile.dev.package.librocksdb-sys]
opt-level = 3
debug = false
TOML
(cd "$work" && env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC -u ROCKSDB_INCLUDE_DIR CARGO_TARGET_DIR="$work/target" CC=clang CXX=clang++ cargo build)
source_dir="$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -maxdepth 2 -type d -name "librocksdb-sys-$rocksdb_sys_version" | head -n 1)"
out="$(find "$work/target/debug/build" -name librocksdb.a -path '*librocksdb-sys*' | head -n 1)"
[ -n "$out" ] && [ -n "$source_dir" ] || { echo "RocksDB was built but its library was not found" >&2; exit 1; }
mkdir -p "$ROCKSDB_LIB_DIR"
cp -r "$source_dir/rocksdb/include" "$ROCKSDB_LIB_DIR/"
strip --strip-debug "$out" -o "$ROCKSDB_LIB_DIR/librocksdb.a.new"
mv "$ROCKSDB_LIB_DIR/librocksdb.a.new" "$ROCKSDB_LIB_DIR/librocksdb.a"
rm -rf "$work/target"
