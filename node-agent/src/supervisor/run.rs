//! The life of a supervisor: prepare, create and start the container, move bytes until its first process is gone, then
//! write the exit record and clean up. Single-threaded; the only blocking calls are to the runtime's command line.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::cri_log::{CriLog, Stream};
use super::hub::{Hub, Request};
use super::record::{
    ContainerDir, ExitRecord, SOCKET, StartedRecord, SuperviseSpec, boot_id, process_start_ticks,
};
use super::{launch, mounts};
use crate::cgroup::Cgroups;

/// How long output may keep coming after the first process is gone (others may hold the pipes).
const DRAIN: Duration = Duration::from_secs(2);
/// Wakes the loop for stalled clients and stray zombies.
const TICK_MS: u16 = 5_000;

/// Runs one container to its end.
pub(super) fn run(path: &Path) -> io::Result<()> {
    let dir = ContainerDir(path.to_owned());
    let spec = dir.spec()?;
    let Some(_lock) = patient_lock(&dir)? else {
        return Err(io::Error::other("another supervisor owns this container"));
    };
    if dir.exit().is_some() {
        return Ok(());
    }
    // Failure means we lead a session already, which serves as well.
    let _ = nix::unistd::setsid();
    nix::sys::prctl::set_child_subreaper(true)?;
    let cgroups = Cgroups::detect()?;
    cgroups.create(&spec.supervisor_cgroup)?;
    cgroups.enter(&spec.supervisor_cgroup, std::process::id())?;
    std::env::set_current_dir(path)?;
    match start(&dir, &spec, &cgroups) {
        Ok(mut running) => {
            announce("started");
            let record = running.attend(&cgroups);
            dir.write_exit(&record)?;
            let json = serde_json::to_vec(&record).map_err(io::Error::other)?;
            running.hub.finish(&json);
        }
        Err(error) => {
            let record = ExitRecord {
                exit_code: 128,
                signal: None,
                oom_killed: cgroups.oom_kills(&spec.cgroup_path) > 0,
                started_at: None,
                finished_at: Timestamp::now(),
                start_error: Some(error.to_string()),
                lost: false,
            };
            dir.write_exit(&record)?;
            announce("failed");
        }
    }
    launch::delete(&spec);
    cgroups.kill_all(&spec.cgroup_path);
    let _ = cgroups.remove(&spec.cgroup_path);
    let _ = std::fs::remove_file(SOCKET);
    Ok(())
}

/// The lock. An agent that asks whether a supervisor lives holds it for a moment itself.
fn patient_lock(dir: &ContainerDir) -> io::Result<Option<nix::fcntl::Flock<File>>> {
    for _ in 0..50 {
        if let Some(lock) = dir.try_lock()? {
            return Ok(Some(lock));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}

/// One word to the agent on our stdout; it may be gone.
fn announce(word: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(word.as_bytes()).and_then(|()| out.flush());
}

/// A container and everything that hangs on it.
struct Running {
    spec: SuperviseSpec,
    started: StartedRecord,
    pidfd: OwnedFd,
    hub: Hub,
    log: CriLog,
    /// stdout and stderr, or the terminal's master alone.
    outputs: [Option<File>; 2],
    stdin: Option<File>,
    stdin_queue: Vec<u8>,
    stdin_closing: bool,
    exited: Option<(i32, Option<i32>)>,
}

fn start(dir: &ContainerDir, spec: &SuperviseSpec, cgroups: &Cgroups) -> io::Result<Running> {
    let shared = mounts::take_along(&spec.shared)?;
    mounts::own_mount_namespace()?;
    shared.put_back()?;
    if let Some(point) = &spec.cover {
        mounts::cover(point)?;
    }
    mounts::mount_overlay(&dir.0, &spec.layers)
        .map_err(|error| io::Error::other(format!("mounting the root file system: {error}")))?;
    let log = CriLog::open(&spec.log_path, spec.log_max_bytes, spec.log_max_files)?;
    let _ = std::fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET)?;
    listener.set_nonblocking(true)?;
    let io = launch::create(spec)?;
    let pid = launch::read_pid()?;
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid)
            .ok_or_else(|| io::Error::other("the runtime wrote no pid"))?,
        rustix::process::PidfdFlags::empty(),
    )?;
    // A leftover kill counter would lie; the group is new, so anything but 0 is a fault of ours.
    debug_assert_eq!(cgroups.oom_kills(&spec.cgroup_path), 0);
    let started = StartedRecord {
        pid,
        pid_start_ticks: process_start_ticks(pid).unwrap_or(0),
        supervisor_pid: i32::try_from(std::process::id()).unwrap_or(0),
        boot_id: boot_id(),
        started_at: Timestamp::now(),
    };
    // Before `start`: from here on a crash must find the process that may run.
    dir.write_started(&started)?;
    launch::start(spec)?;
    Ok(Running {
        spec: spec.clone(),
        started,
        pidfd,
        hub: Hub::new(listener),
        log,
        outputs: io.outputs,
        stdin: io.stdin,
        stdin_queue: Vec::new(),
        stdin_closing: false,
        exited: None,
    })
}

impl Running {
    /// Moves bytes until the container is over.
    fn attend(&mut self, cgroups: &Cgroups) -> ExitRecord {
        while self.exited.is_none() {
            let output_ready = self.wait(None);
            self.serve(output_ready);
            self.reap();
        }
        let finished_at = Timestamp::now();
        let oom_killed = cgroups.oom_kills(&self.spec.cgroup_path) > 0;
        cgroups.kill_all(&self.spec.cgroup_path);
        let deadline = Instant::now() + DRAIN;
        while self.outputs.iter().any(Option::is_some) && Instant::now() < deadline {
            let output_ready = self.wait(Some(deadline));
            self.serve(output_ready);
        }
        // A log that cannot be written must not lose the exit record.
        let _ = self.log.finish(Timestamp::now());
        let (exit_code, signal) = self.exited.unwrap_or((255, None));
        ExitRecord {
            exit_code,
            signal,
            oom_killed: oom_killed && exit_code != 0,
            started_at: Some(self.started.started_at),
            finished_at,
            start_error: None,
            lost: false,
        }
    }

    /// Polls everything; returns which outputs can be read.
    fn wait(&self, deadline: Option<Instant>) -> [bool; 2] {
        let room = self.hub.has_room();
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let mut output_at = [None, None];
        for (index, output) in self.outputs.iter().enumerate() {
            if let Some(file) = output.as_ref().filter(|_| room) {
                output_at[index] = Some(fds.len());
                fds.push(PollFd::new(file.as_fd(), PollFlags::POLLIN));
            }
        }
        if self.exited.is_none() {
            fds.push(PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN));
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !self.stdin_queue.is_empty()) {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        for (fd, wish) in self.hub.descriptors(self.stdin_queue.len()) {
            fds.push(PollFd::new(fd, wish));
        }
        let tick = deadline.map_or(TICK_MS, |deadline| {
            let left = deadline
                .saturating_duration_since(Instant::now())
                .as_millis();
            u16::try_from(left).unwrap_or(TICK_MS).clamp(1, TICK_MS)
        });
        // An interrupted poll only means another turn.
        let _ = poll(&mut fds, PollTimeout::from(tick));
        output_at.map(|at| at.is_some_and(|at: usize| fds[at].any().unwrap_or(true)))
    }

    fn serve(&mut self, output_ready: [bool; 2]) {
        let now = Instant::now();
        for (index, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            if output_ready[index] {
                self.read_output(index, stream, now);
            }
        }
        for request in self.hub.serve(self.stdin_queue.len(), now) {
            match request {
                Request::Stdin(bytes) if self.stdin.is_some() => self.stdin_queue.extend(bytes),
                Request::Stdin(_) => {}
                Request::StdinEnded => self.stdin_closing |= self.spec.stdin_once,
                Request::Resize { width, height } => self.resize(width, height),
                Request::Signal(number) => self.signal(number),
            }
        }
        self.write_stdin();
    }

    fn read_output(&mut self, index: usize, stream: Stream, now: Instant) {
        let mut buffer = [0_u8; 32 * 1024];
        let Some(file) = self.outputs[index].as_mut() else {
            return;
        };
        match file.read(&mut buffer) {
            Ok(count) if count > 0 => {
                // A full disk must not stop the container: the lines are lost, the bytes still reach clients.
                let _ = self.log.write(stream, &buffer[..count], Timestamp::now());
                self.hub.broadcast(stream, &buffer[..count], now);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            // End of file; a terminal master says EIO instead.
            _ => self.outputs[index] = None,
        }
    }

    fn write_stdin(&mut self) {
        if let Some(stdin) = self.stdin.as_mut()
            && !self.stdin_queue.is_empty()
        {
            match stdin.write(&self.stdin_queue) {
                Ok(written) => {
                    self.stdin_queue.drain(..written);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(_) => {
                    self.stdin_queue.clear();
                    self.stdin = None;
                }
            }
        }
        if self.stdin_closing && self.stdin_queue.is_empty() {
            self.stdin = None;
        }
    }

    fn resize(&self, width: u16, height: u16) {
        if let Some(master) = self.outputs[0].as_ref().filter(|_| self.spec.tty) {
            let size = rustix::termios::Winsize {
                ws_row: height,
                ws_col: width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    fn signal(&self, number: i32) {
        // Our own child and not reaped yet: the pid cannot be another process's.
        if let (None, Ok(signal)) = (self.exited, Signal::try_from(number)) {
            let _ = kill(Pid::from_raw(self.started.pid), signal);
        }
    }

    fn reap(&mut self) {
        loop {
            let (pid, end) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, (code, None)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, (128 + signal as i32, Some(signal as i32)))
                }
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::EINTR) => return,
                Ok(_) => continue,
                // No children at all: someone else reaped our container, which cannot be told from a kill.
                Err(_) => {
                    self.exited.get_or_insert((137, None));
                    return;
                }
            };
            if pid.as_raw() == self.started.pid {
                self.exited = Some(end);
            }
        }
    }
}

/// A runtime call with our working directory and a log file for its errors.
pub(super) fn runtime_command(spec: &SuperviseSpec) -> Command {
    let mut command = Command::new(&spec.runtime);
    command
        .arg("--root")
        .arg(&spec.runtime_root)
        .args(["--log", "runtime.log", "--log-format", "json"])
        .stdin(Stdio::null());
    command
}

/// Makes a descriptor non-blocking.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(())
}
