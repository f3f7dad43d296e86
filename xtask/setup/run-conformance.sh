#!/usr/bin/env bash
# `make conformance`: FOCUS and SKIP are regular expressions of names, CONTENT is protobuf or json, PROCS tests run at the same
# time, LOOK=1 leaves the table as it is. All else that the judge takes goes through ARGS.
. "$(dirname "$0")/env.sh"
step "building (release)"
cargo build --release --locked --workspace --bin corten --bin conformance
exec "$CARGO_TARGET_DIR/release/conformance" --programs "$CORTEN_CACHE/conformance" --project "$CORTEN_ROOT" \
    --focus "${FOCUS:-}" --skip "${SKIP:-}" --content "${CONTENT:-protobuf}" --procs "${PROCS:-4}" ${LOOK:+--look} ${ARGS:-}
