#!/usr/bin/env bash
# Makes the demo's image as a docker archive out of Debian's static busybox: no builder, no registry.
# usage: image.sh OUTPUT.tar
set -euo pipefail
out="$1"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/bin" "$work/root/tmp" "$work/root/etc" "$work/image"
cp "$(command -v busybox)" "$work/root/bin/busybox"
for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$work/root/bin/$applet"; done
echo 'root:x:0:0:root:/:/bin/sh' > "$work/root/etc/passwd"
cat > "$work/root/bin/demo" <<'SH'
#!/bin/sh
# Says who answers, and goes on serving for a moment after SIGTERM, so that no request of an update fails.
mkdir -p /tmp/www
echo "hello from $(hostname)" > /tmp/www/index.html
trap 'sleep 2; exit 0' TERM
httpd -p 8080 -h /tmp/www
while :; do sleep 1 & wait $!; done
SH
chmod 755 "$work/root/bin/demo"
chmod 1777 "$work/root/tmp"
# The same input gives the same image, so that a second run imports nothing new.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work/root" -cf "$work/image/layer.tar" .
diff_id="sha256:$(sha256sum "$work/image/layer.tar" | cut -d' ' -f1)"
cat > "$work/image/config.json" <<JSON
{"architecture":"$(dpkg --print-architecture)","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Cmd":["/bin/demo"],"Env":["PATH=/bin"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["$diff_id"]}}
JSON
echo '[{"Config":"config.json","RepoTags":["corten/demo:1"],"Layers":["layer.tar"]}]' > "$work/image/manifest.json"
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work/image" -cf "$out" manifest.json config.json layer.tar
