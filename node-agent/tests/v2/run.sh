#!/usr/bin/env bash
# Runs node-agent's container tests on a kernel with cgroup v2 alone, on hosts that have v1 or a hybrid: a user-mode Linux
# guest over this machine's own root (read through hostfs; /tmp, /run and /var are the guest's). No privilege is needed
# beyond a normal process's, and nothing outside the guest is touched but the build folder that is read.
# usage: run.sh TEST-BINARY [ARGS...]     e.g. run.sh "$CARGO_TARGET_DIR/debug/deps/containers-0123" --test-threads=1
set -euo pipefail
command -v linux.uml >/dev/null || { echo "install user-mode-linux first (apt-get install user-mode-linux)" >&2; exit 1; }
binary="$(realpath "$1")"; shift
work="$(mktemp -d /tmp/corten-uml.XXXXXX)"
trap 'rm -rf "$work"' EXIT
cat > "$work/init" <<INIT
#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts -o ptmxmode=0666 2>/dev/null; ln -sf pts/ptmx /dev/ptmx 2>/dev/null
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# A group of its own for everything here: controllers can be handed down only from groups without processes.
mkdir /sys/fs/cgroup/init && echo \$\$ > /sys/fs/cgroup/init/cgroup.procs
ip link set lo up
hostname uml
busybox insmod \$(find /usr/lib/uml/modules -name overlay.ko)
cd /tmp
echo "guest: \$(uname -r), controllers: \$(cat /sys/fs/cgroup/cgroup.controllers)"
TMPDIR=/tmp RUST_BACKTRACE=0 "$binary" $*
echo "guest: exit \$?"
sync
# The guest's only way out: init must not end.
halt -f 2>/dev/null || /bin/busybox poweroff -f
INIT
chmod +x "$work/init"
out="$work/out"
timeout "${CORTEN_UML_TIMEOUT:-300}" linux.uml mem=1536M root=/dev/root rootfstype=hostfs rootflags=/ rw quiet init="$work/init" \
    con=null con0=null,fd:1 umid="corten-$$" uml_dir="$work/" </dev/null > "$out" 2>&1 || true
sed -n '/^guest: /,$p' "$out" | tr -d '\r'
grep -aq 'guest: exit 0' "$out"
