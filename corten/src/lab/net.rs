//! The network of a lab: namespaces, a bridge per segment, the router between segments, and the table that cuts hosts off.
//! All of it inside namespaces of the lab.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::plan::{Host, Plan};

pub(super) fn underlay_namespace(plan: &Plan) -> String {
    format!("{}-net", plan.name)
}

pub(super) fn host_namespace(plan: &Plan, host: &Host) -> String {
    format!("{}-{}", plan.name, host.name)
}

/// A command inside a namespace. `nsenter` and not `ip netns exec`: that one would hide the cgroups behind a fresh /sys.
pub(super) fn enter(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{namespace}"))
        .arg(program);
    command
}

pub(super) fn create(plan: &Plan) -> Result<()> {
    let underlay = underlay_namespace(plan);
    run("ip", &["netns", "add", &underlay], "")?;
    let mut bridges = "link set lo up\n".to_owned();
    for segment in 0..plan.segments {
        let (address, prefix) = (plan.gateway(segment), plan.prefix());
        bridges.push_str(&format!(
            "link add br{segment} type bridge\naddress add {address}/{prefix} dev br{segment}\nlink set br{segment} up\n"
        ));
    }
    inside(&underlay, &["ip", "-batch", "-"], &bridges)?;
    if plan.segments > 1 {
        // A router as strict as real networks: it knows hosts, and drops what comes from or goes to a pod.
        let strict = ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=1"];
        inside(&underlay, &[&["sysctl", "-qw"][..], &strict].concat(), "")?;
    }
    inside(&underlay, &["nft", "-f", "-"], CUT_TABLE)?;
    for host in &plan.hosts {
        let (namespace, port) = (host_namespace(plan, host), port(host));
        run("ip", &["netns", "add", &namespace], "")?;
        let link = format!(
            "link add {port} type veth peer name u0 netns {namespace}\nlink set {port} master br{} up\n",
            host.segment
        );
        inside(&underlay, &["ip", "-batch", "-"], &link)?;
        // A default route, as hosts have one; behind it are the other segments, if any.
        let within = format!(
            "link set lo up\naddress add {}/{} dev u0\nlink set u0 up\nroute add default via {}\n",
            host.ip,
            plan.prefix(),
            plan.gateway(host.segment)
        );
        inside(&namespace, &["ip", "-batch", "-"], &within)?;
        inside(&namespace, &["sysctl", "-qw", "net.ipv4.ip_forward=1"], "")?;
    }
    Ok(())
}

const CUT_TABLE: &str = "table bridge cut {
  set ports { type ifname; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname @ports drop
    oifname @ports drop
  }
  chain input {
    type filter hook input priority 0; policy accept;
    iifname @ports drop
  }
  chain output {
    type filter hook output priority 0; policy accept;
    oifname @ports drop
  }
}
";

/// The host's port at the bridge.
fn port(host: &Host) -> String {
    format!("v{}", host.index)
}

pub(super) fn cut(plan: &Plan, host: &Host) -> Result<()> {
    change(plan, host, "add")
}

pub(super) fn heal(plan: &Plan, host: &Host) -> Result<()> {
    if is_cut(plan, host) {
        change(plan, host, "delete")
    } else {
        Ok(())
    }
}

fn change(plan: &Plan, host: &Host, verb: &str) -> Result<()> {
    let script = format!("{verb} element bridge cut ports {{ \"{}\" }}\n", port(host));
    inside(&underlay_namespace(plan), &["nft", "-f", "-"], &script).map(drop)
}

pub(super) fn is_cut(plan: &Plan, host: &Host) -> bool {
    let listed = inside(
        &underlay_namespace(plan),
        &["nft", "list", "set", "bridge", "cut", "ports"],
        "",
    );
    listed.is_ok_and(|text| text.contains(&format!("\"{}\"", port(host))))
}

/// Removes the namespaces, and with them everything in them. Absent ones are fine.
pub(super) fn delete(plan: &Plan) -> Result<()> {
    let existing = run("ip", &["netns", "list"], "")?;
    let ours = plan
        .hosts
        .iter()
        .map(|host| host_namespace(plan, host))
        .chain([underlay_namespace(plan)]);
    for namespace in ours {
        if existing
            .lines()
            .any(|line| line.split_whitespace().next() == Some(&namespace))
        {
            run("ip", &["netns", "delete", &namespace], "")?;
        }
    }
    Ok(())
}

fn inside(namespace: &str, command: &[&str], input: &str) -> Result<String> {
    let net = format!("--net=/run/netns/{namespace}");
    let mut args = vec![net.as_str()];
    args.extend_from_slice(command);
    run("nsenter", &args, input)
}

fn run(program: &str, args: &[&str], input: &str) -> Result<String> {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}; is it installed?"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let out = child.wait_with_output()?;
    if !out.status.success() {
        bail!(
            "{program} {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
