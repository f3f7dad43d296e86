#!/usr/bin/env bash
# `make up` behind the build: starts the cluster, gives it the demo's image, applies the demo, and says what to try next.
# Run again it changes nothing.
. "$(dirname "$0")/env.sh"
corten="$CARGO_TARGET_DIR/release/corten"
[ "$(id -u)" = 0 ] || { echo "run this as root: the cluster makes namespaces, mounts and firewall rules" >&2; exit 1; }
step "starting the cluster"
"$corten" up --detach
step "building and importing the demo's image"
archive="$CORTEN_CACHE/demo-image.tar"
"$CORTEN_ROOT/examples/demo/image.sh" "$archive"
"$corten" image import "$archive"
step "applying examples/demo/demo.yaml"
"$corten" apply -f "$CORTEN_ROOT/examples/demo/demo.yaml"
step "waiting for the demo"
# Node ports answer on the node's addresses, as upstream's nftables mode has it; not on 127.0.0.1.
demo="http://$(hostname -I | awk '{print $1}'):30080/"
for _ in $(seq 150); do
    answer="$(curl -fsS --noproxy '*' -m 2 "$demo" 2>/dev/null || true)"
    [ -n "$answer" ] && break
    sleep 0.2
done
[ -n "${answer:-}" ] || { echo "the demo does not answer; see: $corten status" >&2; exit 1; }
"$corten" status
cat <<TXT

The demo answers: $answer

Try next:
  export KUBECONFIG=$("$corten" kubeconfig)
  kubectl get all -o wide
  kubectl scale deployment demo --replicas=5
  curl $demo
  $corten lab --members 3 --nodes 3      # a cluster of three hosts on this machine
  $corten down                           # stop everything; state is kept
TXT
