#!/usr/bin/env bash
# `make bench` behind the build: figures of this machine, each from a fresh start. Nothing here passes or fails.
. "$(dirname "$0")/env.sh"
# Of the whole workspace, as `make up` does: one set of features, so that nothing is built twice.
step "building (release)"
cargo build --release --locked --workspace --bin corten --example bench
corten="$CARGO_TARGET_DIR/release/corten"
work="$(mktemp -d /var/tmp/corten-bench.XXXXXX)"
ns="corten-bench"
pids=()
paths=(--data-dir "$work/data" --run-dir "$work/run" --config-dir "$work/config")
inside() { nsenter --net="/run/netns/$ns" "$@"; }
cleanup() {
    inside "$corten" down "${paths[@]}" >/dev/null 2>&1 || true
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    ip netns delete "$ns" 2>/dev/null || true
    awk '{print $2}' /proc/self/mounts | grep "^$work" | sort -r | xargs -r umount -l || true
    rm -rf "$work"
}
trap cleanup EXIT
ip netns delete "$ns" 2>/dev/null || true
ip netns add "$ns"
ip -n "$ns" link set lo up
ip -n "$ns" link add u0 type veth peer name u1
ip -n "$ns" link set u1 up
ip -n "$ns" addr add 192.168.98.1/24 dev u0
ip -n "$ns" link set u0 up
ip -n "$ns" route add default via 192.168.98.254

step "cold start (first start: keys, empty store) and warm start"
first="$(inside "$corten" up --detach --node-ip 192.168.98.1 "${paths[@]}" | sed -n 's/.*ready after \([0-9]*\) ms.*/\1/p')"
inside "$corten" down "${paths[@]}" >/dev/null
second="$(inside "$corten" up --detach --node-ip 192.168.98.1 "${paths[@]}" | sed -n 's/.*ready after \([0-9]*\) ms.*/\1/p')"
step "idle memory after 20 s"
sleep 20
pid="$(cat "$work/run/corten.pid")"
rss="$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status")"
anon="$(awk '/^RssAnon/ {print $2}' "/proc/$pid/status")"
step "API and pods"
"$CORTEN_ROOT/examples/demo/image.sh" "$work/image.tar"
inside "$corten" image "${paths[@]}" import "$work/image.tar" >/dev/null
figures="$(inside "$corten" bench "${paths[@]}")"
inside "$corten" down "${paths[@]}" >/dev/null

step "store: 3 members on loopback, fsync on, beside etcd of the same shape; the two take turns"
"$(dirname "$0")/etcd.sh"
load="$CARGO_TARGET_DIR/release/examples/bench"
cluster="" peers=""
for i in 1 2 3; do
    cluster+="${cluster:+,}m$i=http://127.0.0.1:2380$i"
    peers+="${peers:+,}m$i=http://127.0.0.1:2580$i"
done
for i in 1 2 3; do
    cat > "$work/m$i.toml" <<TOML
name = "m$i"
data-dir = "$work/m$i"
initial-cluster = "$cluster"
listen-client-urls = ["http://127.0.0.1:2379$i"]
listen-peer-urls = ["http://127.0.0.1:2380$i"]
TOML
    "$corten" role store --config "$work/m$i.toml" >"$work/m$i.log" 2>&1 &
    pids+=($!)
    "$CORTEN_CACHE/bin/etcd-3.6" --name "m$i" --data-dir "$work/etcd$i" --initial-cluster "$peers" --logger zap --log-level error \
        --listen-client-urls "http://127.0.0.1:2579$i" --advertise-client-urls "http://127.0.0.1:2579$i" \
        --listen-peer-urls "http://127.0.0.1:2580$i" --initial-advertise-peer-urls "http://127.0.0.1:2580$i" >"$work/etcd$i.log" 2>&1 &
    pids+=($!)
done
sleep 5
# usage: endpoints BASE_PORT
endpoints() { echo "http://127.0.0.1:${1}1,http://127.0.0.1:${1}2,http://127.0.0.1:${1}3"; }
store_figures=""
# usage: compare LABEL FLAGS...; three turns each, so that a disturbed one shows.
compare() {
    local label="$1" turn ours theirs; shift
    for turn in 1 2 3; do
        ours="$("$load" load --endpoints "$(endpoints 2379)" "$@")" || { tail -n 20 "$work"/m?.log >&2; exit 1; }
        theirs="$("$load" load --endpoints "$(endpoints 2579)" "$@")" || { tail -n 20 "$work"/etcd?.log >&2; exit 1; }
        store_figures+="$label   corten-store  $ours"$'\n'"$label   etcd 3.6      $theirs"$'\n'
    done
}
compare "put 256 B " --clients 1 --total 1000
compare "put 256 B " --clients 256 --conns 48 --total 20000
compare "put 256 B " --clients 1000 --conns 99 --total 30000
compare "get linear" --op get --clients 256 --conns 48 --total 40000
member_rss="$(for pid in "${pids[@]}"; do awk '/^(Name|VmRSS)/ {printf "%s ", $2} END {print "kB"}' "/proc/$pid/status"; done)"

cat <<TXT

machine: $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), $(uname -r)
cold start to Ready, first ever              $first ms
cold start to Ready, state present           $second ms
idle memory of the whole process (RSS)       $((rss / 1024)) MiB, of which not backed by files $((anon / 1024)) MiB
$figures
store, 3 members and the load on this one machine:
$store_figures
memory of the members after it:
$member_rss
TXT
