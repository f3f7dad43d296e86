//! A portable copy of a whole state as one stream: what `etcdctl snapshot save` stores.
//! Not etcd's file format, and not how members send each other snapshots.
//! Invariant: every keyspace is in it, from one point in time, and a SHA-256 over everything before it ends it.
//!
//! ```text
//!   magic (8)  { keyspace (1) key length (4) value length (4) key value }*  0xff rows (8)  zeros  sha256 (32)
//! ```
//! The zeros fill up to a multiple of 512 bytes: by length modulo 512 etcd's clients see that a hash is there.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use corten_store_core::backend::{Backend, BackendError, Batch, Keyspace};
use corten_store_core::{Facts, Inspector, Revision};
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 8] = b"CORTENB1";
const END: u8 = 0xff;
const BLOCK: usize = 512;
const HASH_LEN: usize = 32;
/// Bytes in one piece of the stream.
const CHUNK_BYTES: usize = 64 * 1024;
/// No row is longer: a log entry carries at most 1.5 MiB. Without it a few compressed bytes could claim gigabytes.
const ROW_BYTES_MAX: usize = 16 << 20;
/// Rows written as one when restoring.
const RESTORE_ROWS: usize = 4096;
/// The same in bytes.
const RESTORE_BYTES: usize = 4 << 20;

/// Why a copy cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not such a copy.
    #[error("not a Corten backup")]
    Magic,
    /// It was cut short or changed.
    #[error("backup is damaged: {0}")]
    Damaged(&'static str),
    /// It could not be read.
    #[error("cannot read the backup")]
    Io(#[from] io::Error),
    /// It could not be written, or its rows are not what this code writes.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Writes a copy piece by piece to `sink`, which says whether to go on. Blocks; meant for a blocking thread.
pub fn write(
    backend: &Arc<dyn Backend>,
    mut sink: impl FnMut(Bytes) -> bool,
) -> Result<(), BackendError> {
    let snapshot = backend.snapshot();
    let mut out = Out {
        sink: &mut sink,
        buffer: BytesMut::with_capacity(CHUNK_BYTES),
        hash: Sha256::new(),
        len: 0,
    };
    out.put(MAGIC);
    let mut rows: u64 = 0;
    for (number, space) in (0_u8..).zip(Keyspace::ALL) {
        let mut cursor = snapshot.scan(space, &[], None)?;
        while let Some(key) = cursor.key() {
            let value = cursor.value();
            let mut head = [0; 9];
            head[0] = number;
            head[1..5].copy_from_slice(&length(key)?.to_be_bytes());
            head[5..].copy_from_slice(&length(value)?.to_be_bytes());
            out.put(&head);
            out.put(key);
            out.put(value);
            if !out.flush_full() {
                return Ok(());
            }
            rows += 1;
            cursor.advance()?;
        }
    }
    out.put(&[END]);
    out.put(&rows.to_be_bytes());
    out.finish();
    Ok(())
}

fn length(row: &[u8]) -> Result<u32, BackendError> {
    u32::try_from(row.len()).map_err(|_| BackendError::corrupt("row longer than 4 GiB"))
}

struct Out<'a> {
    sink: &'a mut dyn FnMut(Bytes) -> bool,
    buffer: BytesMut,
    hash: Sha256,
    len: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.len += bytes.len();
        self.buffer.put_slice(bytes);
    }

    fn flush_full(&mut self) -> bool {
        self.buffer.len() < CHUNK_BYTES || (self.sink)(self.buffer.split().freeze())
    }

    fn finish(mut self) {
        let zeros = [0; BLOCK];
        let fill = self.len.next_multiple_of(BLOCK) - self.len;
        self.put(&zeros[..fill]);
        let hash = self.hash.finalize();
        self.buffer.put_slice(&hash);
        (self.sink)(self.buffer.freeze());
    }
}

/// Reads a copy row by row. What it gave is to be trusted only once it has given `None`: the hash is at the end.
pub struct Rows<R> {
    from: Hashing<R>,
    rows: u64,
    ended: bool,
}

/// One row of a copy.
pub type Row = (Keyspace, Bytes, Bytes);

impl<R: Read> Rows<R> {
    /// Begins with the mark by which a copy is known.
    pub fn begin(from: R) -> Result<Self, RestoreError> {
        let mut from = Hashing {
            inner: from,
            hash: Sha256::new(),
            len: 0,
        };
        let magic: [u8; MAGIC.len()] = match take(&mut from) {
            Ok(magic) => magic,
            Err(RestoreError::Io(error)) => return Err(RestoreError::Io(error)),
            Err(_) => return Err(RestoreError::Magic),
        };
        if magic != *MAGIC {
            return Err(RestoreError::Magic);
        }
        Ok(Self {
            from,
            rows: 0,
            ended: false,
        })
    }

    /// The next row; `None` once the copy has been found whole, with nothing behind its end.
    pub fn next_row(&mut self) -> Result<Option<Row>, RestoreError> {
        if self.ended {
            return Ok(None);
        }
        let [number] = take(&mut self.from)?;
        if number == END {
            self.finish()?;
            return Ok(None);
        }
        let space = Keyspace::ALL
            .get(usize::from(number))
            .ok_or(RestoreError::Damaged("unknown keyspace"))?;
        let key_len = u32::from_be_bytes(take(&mut self.from)?);
        let value_len = u32::from_be_bytes(take(&mut self.from)?);
        let key = take_row(&mut self.from, key_len)?;
        let value = take_row(&mut self.from, value_len)?;
        self.rows += 1;
        Ok(Some((*space, key, value)))
    }

    fn finish(&mut self) -> Result<(), RestoreError> {
        if u64::from_be_bytes(take(&mut self.from)?) != self.rows {
            return Err(RestoreError::Damaged("rows are missing"));
        }
        while !self.from.len.is_multiple_of(BLOCK as u64) {
            if take(&mut self.from)? != [0] {
                return Err(RestoreError::Damaged("its end is not filled with zeros"));
            }
        }
        let hash = std::mem::take(&mut self.from.hash).finalize();
        let wanted: [u8; HASH_LEN] = take(&mut self.from)?;
        if hash.as_slice() != wanted {
            return Err(RestoreError::Damaged("the hash differs"));
        }
        // Also what makes layers below look at their own ends.
        if self.from.inner.read(&mut [0])? != 0 {
            return Err(RestoreError::Damaged("something follows its end"));
        }
        self.ended = true;
        Ok(())
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    len: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.len += count as u64;
        Ok(count)
    }
}

/// Fills an empty backend from a copy, which is found whole only at its end: an error leaves the backend useless. Gives the
/// number of rows. Blocks.
pub fn restore(backend: &dyn Backend, copy: impl Read) -> Result<u64, RestoreError> {
    let mut rows = Rows::begin(BufReader::with_capacity(CHUNK_BYTES, copy))?;
    let mut batch = Batch::default();
    let mut bytes = 0;
    while let Some((space, key, value)) = rows.next_row()? {
        bytes += key.len() + value.len();
        batch.put(space, key, value);
        if bytes >= RESTORE_BYTES || batch.len() == RESTORE_ROWS {
            bytes = 0;
            backend.write(std::mem::take(&mut batch))?;
        }
    }
    backend.write(batch)?;
    Ok(rows.rows)
}

/// Reads a copy to its end and checks every row. With `hash_at`, also hashes the keys as a member's `HashKV` does. Blocks.
pub fn inspect(
    copy: impl Read,
    hash_at: Option<(Revision, Revision)>,
) -> Result<Facts, RestoreError> {
    let mut rows = Rows::begin(BufReader::with_capacity(CHUNK_BYTES, copy))?;
    let mut inspector = Inspector::new(hash_at);
    while let Some((space, key, value)) = rows.next_row()? {
        inspector.push(space, &key, &value)?;
    }
    Ok(inspector.finish()?)
}

fn take<const N: usize>(from: &mut impl Read) -> Result<[u8; N], RestoreError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(cut)?;
    Ok(bytes)
}

fn take_row(from: &mut impl Read, len: u32) -> Result<Bytes, RestoreError> {
    if len as usize > ROW_BYTES_MAX {
        return Err(RestoreError::Damaged("a row is longer than any can be"));
    }
    // Grown as it is read: a length that is a lie must not allocate what is not there.
    let mut bytes = Vec::new();
    let count = from.take(u64::from(len)).read_to_end(&mut bytes)?;
    if count as u64 == u64::from(len) {
        Ok(bytes.into())
    } else {
        Err(RestoreError::Damaged("a row is cut short"))
    }
}

fn cut(error: io::Error) -> RestoreError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        RestoreError::Damaged("it is cut short")
    } else {
        RestoreError::Io(error)
    }
}
