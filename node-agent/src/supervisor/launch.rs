//! The supervisor's calls of the OCI runtime: create with pipes or a terminal, start, delete. The working directory is the
//! container directory, so relative names stay under the 108 bytes of a socket address.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::record::SuperviseSpec;
use super::run::{runtime_command, set_nonblocking};

/// The supervisor's ends of a container's streams.
pub(super) struct ContainerIo {
    pub(super) outputs: [Option<File>; 2],
    pub(super) stdin: Option<File>,
}

/// `create`: after it the container's first process exists and waits.
pub(super) fn create(spec: &SuperviseSpec) -> io::Result<ContainerIo> {
    // A crash between create and start leaves a half-made container under this id.
    delete(spec);
    let _ = std::fs::remove_file("runtime.log");
    if spec.tty {
        create_with_terminal(spec)
    } else {
        create_with_pipes(spec)
    }
}

fn create_with_pipes(spec: &SuperviseSpec) -> io::Result<ContainerIo> {
    let (out_read, out_write) = io::pipe()?;
    let (err_read, err_write) = io::pipe()?;
    let mut command = runtime_command(spec);
    command
        .args(["create", "--bundle", ".", "--pid-file", "pid"])
        .arg(&spec.id);
    let stdin = if spec.stdin {
        let (read, write) = io::pipe()?;
        command.stdin(Stdio::from(read));
        Some(File::from(OwnedFd::from(write)))
    } else {
        None
    };
    command.stdout(out_write).stderr(err_write);
    let status = command.status()?;
    // The command holds our copies of the container's ends.
    drop(command);
    let out = File::from(OwnedFd::from(out_read));
    let err = File::from(OwnedFd::from(err_read));
    if !status.success() {
        return Err(runtime_error("create", Some(err)));
    }
    for file in [Some(&out), Some(&err), stdin.as_ref()]
        .into_iter()
        .flatten()
    {
        set_nonblocking(file.as_fd())?;
    }
    Ok(ContainerIo {
        outputs: [Some(out), Some(err)],
        stdin,
    })
}

fn create_with_terminal(spec: &SuperviseSpec) -> io::Result<ContainerIo> {
    let _ = std::fs::remove_file("console");
    let listener = UnixListener::bind("console")?;
    let mut command = runtime_command(spec);
    command
        .args([
            "create",
            "--bundle",
            ".",
            "--pid-file",
            "pid",
            "--console-socket",
            "console",
        ])
        .arg(&spec.id)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = command.status()?;
    if !status.success() {
        return Err(runtime_error("create", None));
    }
    listener.set_nonblocking(true)?;
    let (socket, _) = listener.accept()?;
    let master = receive_descriptor(&socket)?;
    let _ = std::fs::remove_file("console");
    set_nonblocking(master.as_fd())?;
    let master = File::from(master);
    let stdin = if spec.stdin {
        Some(master.try_clone()?)
    } else {
        None
    };
    Ok(ContainerIo {
        outputs: [Some(master), None],
        stdin,
    })
}

#[expect(
    unsafe_code,
    reason = "the kernel hands over a raw descriptor in a control message"
)]
fn receive_descriptor(socket: &std::os::unix::net::UnixStream) -> io::Result<OwnedFd> {
    let mut name = [0_u8; 256];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut iov = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut iov,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel just made this descriptor for us and nobody else knows its number.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::Error::other("the runtime sent no terminal"))
}

/// `start`: lets the created process go.
pub(super) fn start(spec: &SuperviseSpec) -> io::Result<()> {
    let output = runtime_command(spec).arg("start").arg(&spec.id).output()?;
    if output.status.success() {
        return Ok(());
    }
    let error = runtime_error("start", None);
    delete(spec);
    Err(error)
}

/// `delete --force`: kills what is left of it and frees the id. Absent is fine.
pub fn delete(spec: &SuperviseSpec) {
    let _ = runtime_command(spec)
        .args(["delete", "--force"])
        .arg(&spec.id)
        .output();
}

/// The pid that `create` wrote.
pub(super) fn read_pid() -> io::Result<i32> {
    let text = std::fs::read_to_string("pid")?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::other("the runtime's pid file is malformed"))
}

/// The runtime's own words for what went wrong.
fn runtime_error(verb: &str, stderr: Option<File>) -> io::Error {
    let log = std::fs::read_to_string("runtime.log").unwrap_or_default();
    let from_log = log
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|entry| entry.get("msg").and_then(|m| m.as_str()).map(str::to_owned));
    let from_stderr = || {
        let mut file = stderr?;
        let mut text = String::new();
        set_nonblocking(file.as_fd()).ok()?;
        // What can be read without waiting is enough for a message.
        let _ = io::Read::read_to_string(&mut file, &mut text);
        text.lines().last().map(str::to_owned)
    };
    let cause = from_log
        .or_else(from_stderr)
        .unwrap_or_else(|| "no message".to_owned());
    io::Error::other(format!("OCI runtime {verb} failed: {cause}"))
}
