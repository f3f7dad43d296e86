//! Making namespaces and pinning them to files. A throw-away thread enters the new namespaces, sets them up from inside and
//! binds its own entries under /proc to the pin files; then it ends and the pins hold them.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::spec::generate::SharedNamespaces;
use crate::spec::sysctls::Setting;

/// Magic number of nsfs: what a pinned namespace is.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Whether a namespace is mounted on this file.
pub(super) fn is_pinned(pin: &Path) -> bool {
    nix::sys::statfs::statfs(pin).is_ok_and(|stat| stat.filesystem_type().0 == NSFS_MAGIC)
}

/// Makes and pins the namespaces.
pub(super) fn create(
    wanted: &SharedNamespaces,
    hostname: &str,
    sysctls: &[Setting],
) -> io::Result<()> {
    let pins: Vec<(PathBuf, &'static str, CloneFlags)> = [
        (&wanted.network, "net", CloneFlags::CLONE_NEWNET),
        (&wanted.ipc, "ipc", CloneFlags::CLONE_NEWIPC),
        (&wanted.uts, "uts", CloneFlags::CLONE_NEWUTS),
    ]
    .into_iter()
    .filter_map(|(path, name, flag)| Some((path.clone()?, name, flag)))
    .collect();
    if pins.is_empty() {
        return Ok(());
    }
    let (hostname, sysctls) = (hostname.to_owned(), sysctls.to_vec());
    std::thread::Builder::new()
        .name("sandbox".to_owned())
        .spawn(move || enter_and_pin(&pins, &hostname, &sysctls))?
        .join()
        .map_err(|_| io::Error::other("the sandbox thread panicked"))?
}

fn enter_and_pin(
    pins: &[(PathBuf, &'static str, CloneFlags)],
    hostname: &str,
    sysctls: &[Setting],
) -> io::Result<()> {
    let flags = pins
        .iter()
        .fold(CloneFlags::empty(), |all, (_, _, flag)| all | *flag);
    unshare(flags)?;
    if flags.contains(CloneFlags::CLONE_NEWUTS) {
        nix::unistd::sethostname(hostname)?;
    }
    if flags.contains(CloneFlags::CLONE_NEWNET) {
        raise_loopback()?;
    }
    for Setting { path, value } in sysctls {
        std::fs::write(Path::new("/proc/sys").join(path), value)
            .map_err(|error| io::Error::other(format!("setting sysctl {path}: {error}")))?;
    }
    for (pin, name, _) in pins {
        std::fs::File::create(pin)?;
        let own = format!("/proc/thread-self/ns/{name}");
        mount(
            Some(own.as_str()),
            pin,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
    }
    Ok(())
}

/// Brings `lo` up in the current thread's network namespace.
fn raise_loopback() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _messages) = rtnetlink::new_connection()?;
        let up = rtnetlink::LinkUnspec::new_with_name("lo").up().build();
        let request = handle.link().set(up).execute();
        tokio::pin!(request);
        // The connection only moves bytes for the one request: both are polled here.
        tokio::select! {
            () = connection => Err(io::Error::other("netlink connection ended")),
            result = request => result.map_err(io::Error::other),
        }
    })
}
