//! A portable copy of a whole state as one stream: what `etcdctl snapshot save` stores.
//! Not etcd's file format, and not how members send each other snapshots.
//! Invariant: every keyspace is in it, from one point in time, and a SHA-256 over everything before it ends it.
//!
//! ```text
//!   magic (8)  { keyspace (1) key length (4) value length (4) key value }*  0xff rows (8)  zeros  sha256 (32)
//! ```
//! The zeros fill up to a multiple of 512 bytes: by length modulo 512 etcd's clients see that a hash is there.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use corten_store_core::backend::{Backend, BackendError, Batch, Keyspace};
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 8] = b"CORTENB1";
const END: u8 = 0xff;
const BLOCK: usize = 512;
const HASH_LEN: usize = 32;
/// Bytes in one piece of the stream.
const CHUNK_BYTES: usize = 64 * 1024;
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
    /// It could not be written.
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

/// Fills an empty backend from a copy, after a first pass has found it whole. Gives the number of rows. Blocks.
pub fn restore(backend: &dyn Backend, copy: &mut (impl Read + Seek)) -> Result<u64, RestoreError> {
    let len = verify(copy)?;
    copy.seek(SeekFrom::Start(MAGIC.len() as u64))?;
    let mut rest = BufReader::with_capacity(CHUNK_BYTES, copy.take(len - MAGIC.len() as u64));
    let mut batch = Batch::default();
    let (mut rows, mut bytes) = (0_u64, 0);
    loop {
        let [number] = take(&mut rest)?;
        if number == END {
            break;
        }
        let space = Keyspace::ALL
            .get(usize::from(number))
            .ok_or(RestoreError::Damaged("unknown keyspace"))?;
        let key_len = u32::from_be_bytes(take(&mut rest)?);
        let value_len = u32::from_be_bytes(take(&mut rest)?);
        let key = take_row(&mut rest, key_len)?;
        let value = take_row(&mut rest, value_len)?;
        bytes += key.len() + value.len();
        batch.put(*space, key, value);
        rows += 1;
        if bytes >= RESTORE_BYTES || batch.len() == RESTORE_ROWS {
            bytes = 0;
            backend.write(std::mem::take(&mut batch))?;
        }
    }
    if u64::from_be_bytes(take(&mut rest)?) != rows {
        return Err(RestoreError::Damaged("rows are missing"));
    }
    backend.write(batch)?;
    Ok(rows)
}

/// Reads a copy to its end and compares the hash. Gives the length of what the hash covers.
pub fn verify(copy: &mut (impl Read + Seek)) -> Result<u64, RestoreError> {
    let len = copy.seek(SeekFrom::End(0))?;
    let len = len
        .checked_sub(HASH_LEN as u64)
        .filter(|len| *len >= MAGIC.len() as u64)
        .ok_or(RestoreError::Magic)?;
    copy.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let magic: [u8; MAGIC.len()] = take(copy)?;
    if magic != *MAGIC {
        return Err(RestoreError::Magic);
    }
    hash.update(magic);
    let mut rest = copy.take(len - MAGIC.len() as u64);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = rest.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
    }
    let wanted: [u8; HASH_LEN] = take(copy)?;
    if hash.finalize().as_slice() == wanted {
        Ok(len)
    } else {
        Err(RestoreError::Damaged("the hash differs"))
    }
}

fn take<const N: usize>(from: &mut impl Read) -> Result<[u8; N], RestoreError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(cut)?;
    Ok(bytes)
}

fn take_row(from: &mut impl Read, len: u32) -> Result<Bytes, RestoreError> {
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
