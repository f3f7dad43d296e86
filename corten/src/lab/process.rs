//! How a role of a lab's host is started, and how mounts that it left are taken away.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};

use super::net::{enter, host_namespace};
use super::plan::{Host, Plan};
use crate::roles::Role;

/// The role's own binary where it stands beside `binary`, else the launcher playing the role.
pub(super) fn command(plan: &Plan, host: &Host, binary: &Path, role: Role) -> Command {
    let config = plan
        .host_dir(host)
        .join("config")
        .join(format!("{}.toml", role.name()));
    let own = binary.with_file_name(format!("corten-{}", role.name()));
    let program = if own.exists() { own } else { binary.to_owned() };
    let mut command = enter(&host_namespace(plan, host), &program.to_string_lossy());
    if program == binary {
        command.args(["role", role.name()]);
    }
    command.arg("--config").arg(config);
    command
}

/// Unmounts everything below a folder, deepest first.
pub(super) fn unmount_below(dir: &Path) -> Result<()> {
    let text = std::fs::read_to_string("/proc/self/mounts")?;
    let mut points: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    points.retain(|point| Path::new(point).starts_with(dir));
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        umount2(Path::new(point), MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {point}"))?;
    }
    Ok(())
}
