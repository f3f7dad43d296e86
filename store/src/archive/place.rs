//! Where backups lie: a folder or a bucket, as named files that appear whole.
//!
//! Knows nothing of their content. Invariant: after `put` returns, what was put survives a power cut of this host, and
//! nobody has seen a part of it under its name.

mod folder;
pub(super) mod s3;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use s3::{S3, S3Error};

/// Why a place cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The file system refused something.
    #[error("cannot {what} {path}")]
    Folder {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The bucket refused something.
    #[error(transparent)]
    S3(#[from] S3Error),
}

/// A place for backups.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder of this host.
    Folder(PathBuf),
    /// A bucket and a prefix in it.
    S3(S3),
}

/// A file in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// By the clock of the place.
    pub(crate) modified: Option<Timestamp>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(dir) => write!(f, "{}", dir.display()),
            Self::S3(s3) => s3.fmt(f),
        }
    }
}

impl Place {
    /// All files, of whatever name.
    pub(crate) async fn list(&self) -> Result<Vec<Item>, PlaceError> {
        match self {
            Self::Folder(dir) => folder::list(dir),
            Self::S3(s3) => Ok(s3.list().await?),
        }
    }

    /// Where a backup is written before it gets its name: where renaming it is possible, or `scratch`.
    pub(crate) fn building_dir<'a>(&'a self, scratch: &'a Path) -> &'a Path {
        match self {
            Self::Folder(dir) => dir,
            Self::S3(_) => scratch,
        }
    }

    /// Gives a finished, synced file its name here. In a folder it is moved, so it must come from `building_dir`.
    pub(crate) async fn put_file(&self, file: &Path, name: &str) -> Result<(), PlaceError> {
        match self {
            Self::Folder(dir) => folder::adopt(dir, file, name),
            Self::S3(s3) => {
                s3.put_file(file, name).await?;
                Ok(())
            }
        }
    }

    /// Stores a small file.
    pub(crate) async fn put(&self, name: &str, content: Vec<u8>) -> Result<(), PlaceError> {
        match self {
            Self::Folder(dir) => folder::put(dir, name, &content),
            Self::S3(s3) => {
                s3.put(name, content.into()).await?;
                Ok(())
            }
        }
    }

    /// Reads a small file.
    pub(crate) async fn get(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>, PlaceError> {
        let name = name.to_owned();
        let reader = self.open(&name).await?;
        let read = move || {
            let mut content = Vec::new();
            reader
                .take(bytes_max as u64)
                .read_to_end(&mut content)
                .map(|_| content)
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(io::Error::other)
            .and_then(|read| read)
            .map_err(|source| PlaceError::Folder {
                what: "read",
                path: PathBuf::from(name),
                source,
            })
    }

    /// A file as a stream, to be read on a blocking thread.
    pub(crate) async fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, PlaceError> {
        match self {
            Self::Folder(dir) => Ok(Box::new(folder::open(dir, name)?)),
            Self::S3(s3) => Ok(Box::new(s3.open(name).await?)),
        }
    }

    /// Removes a file; one that is not there is fine.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        match self {
            Self::Folder(dir) => folder::remove(dir, name),
            Self::S3(s3) => Ok(s3.remove(name).await?),
        }
    }
}

/// What an asynchronous task sends, read on a blocking thread.
pub(crate) struct Pipe {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

/// Pieces that wait in a pipe.
const PIECES_MAX: usize = 8;

impl Pipe {
    pub(crate) fn new() -> (mpsc::Sender<io::Result<Bytes>>, Self) {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let piece = Bytes::new();
        (sender, Self { pieces, piece })
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
