//! The CRI log file: `<RFC3339Nano> <stream> <F|P> <text>` per line, rotated by size. Reading is the server's business.
//! A line is written whole or in `P` pieces of at most 16 KiB; the bytes of a stream come out unchanged.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Longest piece of a line, as CRI runtimes cut it.
const PIECE_BYTES: usize = 16 * 1024;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Writes the log of one container.
pub struct CriLog {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    max_bytes: u64,
    max_files: usize,
    pending: [Vec<u8>; 2],
}

impl CriLog {
    /// Opens (appends to) `path`. `max_files` counts the current file too.
    pub fn open(path: &Path, max_bytes: u64, max_files: usize) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = append(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            size_bytes,
            max_bytes,
            max_files: max_files.max(1),
            pending: [Vec::new(), Vec::new()],
        })
    }

    /// Takes bytes of a stream; whole lines go out at once, the rest waits for its newline.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8], now: Timestamp) -> io::Result<()> {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let index = stream as usize;
        while !bytes.is_empty() {
            let room = PIECE_BYTES - self.pending[index].len();
            let window = &bytes[..bytes.len().min(room)];
            if let Some(newline) = window.iter().position(|byte| *byte == b'\n') {
                self.pending[index].extend_from_slice(&window[..newline]);
                bytes = &bytes[newline + 1..];
                self.take_piece(stream, 'F', now, &mut out);
            } else {
                self.pending[index].extend_from_slice(window);
                bytes = &bytes[window.len()..];
                if self.pending[index].len() >= PIECE_BYTES {
                    self.take_piece(stream, 'P', now, &mut out);
                }
            }
        }
        self.emit(&out)
    }

    /// Writes what never got its newline.
    pub fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        let mut out = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.pending[stream as usize].is_empty() {
                self.take_piece(stream, 'P', now, &mut out);
            }
        }
        self.emit(&out)
    }

    fn take_piece(&mut self, stream: Stream, tag: char, now: Timestamp, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{now:.9} {} {tag} ", stream.name());
        out.append(&mut self.pending[stream as usize]);
        out.push(b'\n');
    }

    fn emit(&mut self, out: &[u8]) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        if self.size_bytes > 0 && self.size_bytes + out.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        self.file.write_all(out)?;
        self.size_bytes += out.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S%.9f").to_string();
        if self.max_files > 1 {
            let mut rotated = self.path.clone().into_os_string();
            rotated.push(".");
            rotated.push(stamp);
            std::fs::rename(&self.path, &rotated)?;
        } else {
            std::fs::remove_file(&self.path)?;
        }
        self.file = append(&self.path)?;
        self.size_bytes = 0;
        let rotated = rotated_logs(&self.path)?;
        let excess = rotated.len().saturating_sub(self.max_files - 1);
        for old in &rotated[..excess] {
            std::fs::remove_file(old)?;
        }
        Ok(())
    }
}

/// The rotated siblings of a log, oldest first.
pub fn rotated_logs(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut found: Vec<PathBuf> = std::fs::read_dir(parent)?
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|n| n.starts_with(&prefix))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    Ok(found)
}

/// What containers print is not for every user of the host; the folders are open, so that collectors find their way.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05.000000006Z"
            .parse()
            .expect("a timestamp")
    }

    #[test]
    fn lines_and_pieces() {
        let dir = std::env::temp_dir().join(format!("corten-crilog-{}", uuid::Uuid::new_v4()));
        let path = dir.join("0.log");
        let mut log = CriLog::open(&path, 1 << 20, 5).expect("open");
        log.write(Stream::Stdout, b"one\ntw", now()).expect("write");
        log.write(Stream::Stderr, b"err\n", now()).expect("write");
        log.write(Stream::Stdout, b"o\nrest", now()).expect("write");
        log.write(Stream::Stderr, &vec![b'x'; PIECE_BYTES + 1], now())
            .expect("write");
        log.finish(now()).expect("finish");
        let text = std::fs::read_to_string(&path).expect("read");
        let stamp = "2026-01-02T03:04:05.000000006Z";
        let long = "x".repeat(PIECE_BYTES);
        let wanted = format!(
            "{stamp} stdout F one\n{stamp} stderr F err\n{stamp} stdout F two\n{stamp} stderr P {long}\n\
             {stamp} stdout P rest\n{stamp} stderr P x\n"
        );
        assert_eq!(text, wanted);
        std::fs::remove_dir_all(&dir).expect("clean up");
    }

    #[test]
    fn other_users_cannot_read_what_containers_print() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("0.log");
        let mut log = CriLog::open(&path, 100, 3).expect("open");
        for _ in 0..5 {
            log.write(Stream::Stdout, b"a line of forty bytes or so\n", now())
                .expect("write");
        }
        let rotated = rotated_logs(&path).expect("list");
        assert!(!rotated.is_empty());
        for file in rotated.into_iter().chain([path]) {
            let mode = std::fs::metadata(&file).expect("stat").permissions().mode();
            assert_eq!(mode & 0o007, 0, "{}", file.display());
        }
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let dir = std::env::temp_dir().join(format!("corten-crilog-{}", uuid::Uuid::new_v4()));
        let path = dir.join("0.log");
        let mut log = CriLog::open(&path, 100, 3).expect("open");
        for index in 0..20 {
            log.write(Stream::Stdout, format!("line {index}\n").as_bytes(), now())
                .expect("write");
        }
        assert_eq!(rotated_logs(&path).expect("list").len(), 2);
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.ends_with("line 19\n"), "{text}");
        std::fs::remove_dir_all(&dir).expect("clean up");
    }
}
