//! Links, addresses and routes through iproute2: one `ip -batch` on the host and one inside the sandbox for each pod. Every
//! function may be called again after a crash half-way.

use std::net::Ipv4Addr;
use std::path::Path;

use corten_base::command::{CommandError, run};
use ipnet::Ipv4Net;

/// Everything about one sandbox's link.
pub(super) struct Wiring<'a> {
    pub(super) bridge: &'a str,
    pub(super) netns: &'a Path,
    pub(super) veth: String,
    pub(super) ip: Ipv4Addr,
    pub(super) prefix: u8,
    pub(super) gateway: Ipv4Addr,
    pub(super) mtu: u32,
}

/// Interface names hold 15 bytes: a prefix and a hash of the sandbox id.
pub(super) fn veth_name(sandbox: &str) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(sandbox.as_bytes());
    format!("ve{}", hex::encode(&digest[..6]))
}

pub(super) async fn ensure_bridge(
    name: &str,
    gateway: Ipv4Addr,
    cidr: Ipv4Net,
    mtu: u32,
) -> Result<(), CommandError> {
    if !exists(name).await {
        run("ip", &["link", "add", "name", name, "type", "bridge"], "").await?;
    }
    let prefix = cidr.prefix_len();
    let batch = format!(
        "link set dev {name} mtu {mtu} up\n\
         address flush dev {name} scope global\n\
         address replace {gateway}/{prefix} dev {name}\n"
    );
    run("ip", &["-batch", "-"], &batch).await.map(drop)
}

/// What routing between pods needs; a fault is logged, since a host may forbid it and be set up by other means.
pub(super) fn forwarding() {
    let key = "net/ipv4/ip_forward";
    if let Err(error) = switch_on(&Path::new("/proc/sys").join(key)) {
        tracing::warn!(key, %error, "cannot set; pods may not reach each other");
    }
}

/// Whether the kernel shows bridged packets to the packet filter.
pub(super) const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Loads what [`BRIDGE_FILTER`] belongs to. It may be built in, or modprobe absent: what counts is whether the key is there.
pub(super) async fn load_bridge_filter() {
    if !Path::new(BRIDGE_FILTER).exists()
        && let Err(error) = run("modprobe", &["br_netfilter"], "").await
    {
        tracing::warn!(%error, "cannot load br_netfilter");
    }
}

/// Turns it on, or says what is wrong. Without it the answer of a pod to another pod of this node goes straight over the
/// bridge, past the translation that its question went through, and every Service fails between the two.
pub(super) fn filter_bridge(key: &Path) -> Result<(), String> {
    if !key.exists() {
        return Err(
            "the kernel module br_netfilter is not loaded (modprobe br_netfilter): pods of this node could not reach \
             each other through Services"
                .to_owned(),
        );
    }
    switch_on(key).map_err(|error| format!("cannot set {} to 1: {error}", key.display()))
}

fn switch_on(key: &Path) -> std::io::Result<()> {
    if std::fs::read_to_string(key).is_ok_and(|now| now.trim() == "1") {
        return Ok(());
    }
    std::fs::write(key, "1")
}

pub(super) async fn exists(link: &str) -> bool {
    // Not through /sys: it shows the network namespace of whoever mounted it.
    run("ip", &["link", "show", "dev", link], "").await.is_ok()
}

/// Whether the sandbox has its interface with its address already.
pub(super) async fn is_wired(wiring: &Wiring<'_>) -> bool {
    if !exists(&wiring.veth).await {
        return false;
    }
    let inside = inside(
        wiring.netns,
        &["-4", "-o", "address", "show", "dev", "eth0"],
        "",
    )
    .await;
    inside.is_ok_and(|out| out.contains(&format!(" {}/{} ", wiring.ip, wiring.prefix)))
}

pub(super) async fn wire(wiring: &Wiring<'_>) -> Result<(), CommandError> {
    remove(&wiring.veth).await?; // half-made by a process that died
    let Wiring {
        bridge,
        veth,
        mtu,
        prefix,
        gateway,
        ip,
        ..
    } = wiring;
    let peer = format!("p{}", &veth[1..]);
    let netns = wiring.netns.display();
    let outside = format!(
        "link add name {veth} mtu {mtu} type veth peer name {peer} mtu {mtu}\n\
         link set dev {peer} netns {netns} name eth0\n"
    );
    run("ip", &["-batch", "-"], &outside).await?;
    attach(veth, bridge).await?;
    let within = format!(
        "link set dev lo up\n\
         address add {ip}/{prefix} dev eth0\n\
         link set dev eth0 up\n\
         route add default via {gateway} dev eth0\n"
    );
    inside(wiring.netns, &["-batch", "-"], &within)
        .await
        .map(drop)
}

/// Puts a sandbox's interface on the bridge, which it has left if the bridge was removed and made again.
pub(super) async fn attach(veth: &str, bridge: &str) -> Result<(), CommandError> {
    if !exists(veth).await {
        return Ok(()); // the sandbox is found broken, and made anew
    }
    let script = format!(
        "link set dev {veth} master {bridge} up\n\
         link set dev {veth} type bridge_slave hairpin on\n"
    );
    run("ip", &["-batch", "-"], &script).await.map(drop)
}

/// Removes a link; absent is fine.
pub(super) async fn remove(link: &str) -> Result<(), CommandError> {
    if !exists(link).await {
        return Ok(());
    }
    match run("ip", &["link", "delete", "dev", link], "").await {
        Err(error) if exists(link).await => Err(error),
        _ => Ok(()), // it may go by itself when its namespace does
    }
}

async fn inside(netns: &Path, args: &[&str], input: &str) -> Result<String, CommandError> {
    let net = format!("--net={}", netns.display());
    let mut all = vec![net.as_str(), "ip"];
    all.extend_from_slice(args);
    run("nsenter", &all, input).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_bridge_skips_address_translation_is_not_ready() {
        let dir = tempfile::tempdir().expect("temp dir");
        let key = dir.path().join("bridge-nf-call-iptables");
        let absent = filter_bridge(&key).expect_err("no module");
        assert!(absent.contains("modprobe br_netfilter"), "{absent}");
        for found in ["0\n", "1\n"] {
            std::fs::write(&key, found).expect("key");
            assert_eq!(filter_bridge(&key), Ok(()));
            let now = std::fs::read_to_string(&key).expect("key");
            assert_eq!(now.trim(), "1");
        }
    }

    #[test]
    fn names_fit_the_kernel() {
        let name = veth_name("a-very-long-sandbox-identifier-0123456789");
        assert!(name.len() < 16, "{name}");
        assert_ne!(name, veth_name("another"));
    }
}
