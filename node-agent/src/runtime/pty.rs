//! A pseudo-terminal's master side for tokio: reads, writes, and the end of file that the kernel reports as EIO.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::traits::TerminalSize;

/// One handle on the master; clones share the descriptor.
#[derive(Clone)]
pub struct PtyMaster(Arc<AsyncFd<File>>);

/// Opens a terminal: the master for us, the slave for a child.
pub fn open(size: TerminalSize) -> io::Result<(PtyMaster, OwnedFd)> {
    let pair = nix::pty::openpty(None, None)?;
    let master = File::from(pair.master);
    let flags = rustix::fs::fcntl_getfl(master.as_fd())?;
    rustix::fs::fcntl_setfl(master.as_fd(), flags | rustix::fs::OFlags::NONBLOCK)?;
    rustix::io::fcntl_setfd(master.as_fd(), rustix::io::FdFlags::CLOEXEC)?;
    let master = PtyMaster(Arc::new(register(master)?));
    master.resize(size)?;
    Ok((master, pair.slave))
}

#[expect(
    unsafe_code,
    reason = "registering a descriptor requires a promise that it stays open"
)]
fn register(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its descriptor, returns the same one each time and closes it only when dropped; the
    // `AsyncFd` is never asked to give out the file mutably.
    unsafe { AsyncFd::register(file) }.map_err(io::Error::from)
}

impl PtyMaster {
    /// Tells the other side how large the terminal is.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let size = rustix::termios::Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(
            self.0.get_ref().as_fd(),
            size,
        )?)
    }
}

impl AsyncRead for PtyMaster {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            match guard.try_io(|fd| fd.get_ref().read(unfilled)) {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // All slaves are closed.
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for PtyMaster {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| fd.get_ref().write(bytes)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
