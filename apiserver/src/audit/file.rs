//! The audit log's file: appended to in batches, rotated by size.
//!
//! Invariant: a line is written whole into one file; rotation happens between lines.

use std::io;
use std::path::{Path, PathBuf};

use corten_base::shutdown::Shutdown;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::Settings;

/// Lines that are written at once.
const BATCH: usize = 256;

/// Writes lines until shutdown, then what is left in the queue.
pub(super) async fn write(
    settings: Settings,
    mut lines: mpsc::Receiver<String>,
    shutdown: Shutdown,
) {
    let mut log = Rotated {
        settings,
        file: None,
        bytes: 0,
    };
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = tokio::select! {
            biased;
            // Both arms are cancel-safe: a batch is either received whole or not at all.
            received = lines.recv_many(&mut batch, BATCH) => received,
            () = shutdown.wait() => 0,
        };
        if received == 0 {
            return;
        }
        if let Err(error) = log.append(&batch).await {
            tracing::error!(%error, path = %log.settings.path.display(), "audit log cannot be written");
            log.file = None;
        }
        batch.clear();
    }
}

struct Rotated {
    settings: Settings,
    file: Option<File>,
    bytes: u64,
}

impl Rotated {
    async fn append(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = lines.join("\n");
        text.push('\n');
        if self.file.is_some() && self.bytes + text.len() as u64 > self.settings.bytes_max {
            self.file = None;
            self.rotate().await?;
        }
        if self.file.is_none() {
            let file = open(&self.settings.path).await?;
            self.bytes = file.metadata().await?.len();
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(text.as_bytes()).await?;
            file.flush().await?;
            self.bytes += text.len() as u64;
        }
        Ok(())
    }

    async fn rotate(&self) -> io::Result<()> {
        let path = &self.settings.path;
        for number in (1..self.settings.files_max).rev() {
            rename(&numbered(path, number), &numbered(path, number + 1)).await?;
        }
        rename(path, &numbered(path, 1)).await
    }
}

async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match tokio::fs::rename(from, to).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

async fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options.open(path).await
}
