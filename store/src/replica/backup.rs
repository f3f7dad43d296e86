//! A portable copy of a whole state as one stream: what `etcdctl snapshot save` stores.
//! Not etcd's file format, and not how members send each other snapshots.
//! Invariant: every keyspace is in it, from one point in time, and a SHA-256 over everything before it ends it.
//!
//! ```text
//!   magic (8)  { keyspace (1) key length (4) value length (4) key value }*  0xff rows (8)  zeros  sha256 (32)
//! ```
//! The zeros fill up to a multiple of 512 bytes: by length modulo 512 etcd's clients see that a hash is there.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
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

/// Why a copy cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not such a copy.
    #[error("not a Corten backup")]
    Magic,
    /// It was cut short or changed.
    #[error("backup is damaged: {0}")]
    Damaged(&'static str),
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

/// Fills an empty backend from a copy.
pub fn restore(backend: &dyn Backend, copy: &Bytes) -> Result<(), RestoreError> {
    let body_len = copy
        .len()
        .checked_sub(HASH_LEN)
        .ok_or(RestoreError::Magic)?;
    let mut rest = copy.slice(..body_len);
    if !rest.starts_with(MAGIC) {
        return Err(RestoreError::Magic);
    }
    if Sha256::digest(&rest).as_slice() != &copy[body_len..] {
        return Err(RestoreError::Damaged("the hash differs"));
    }
    rest.advance(MAGIC.len());
    let cut = |_| RestoreError::Damaged("a row is cut short");
    let mut batch = Batch::default();
    let mut rows: u64 = 0;
    loop {
        let number = rest.try_get_u8().map_err(cut)?;
        if number == END {
            break;
        }
        let space = Keyspace::ALL
            .get(usize::from(number))
            .ok_or(RestoreError::Damaged("unknown keyspace"))?;
        let key_len = rest.try_get_u32().map_err(cut)? as usize;
        let value_len = rest.try_get_u32().map_err(cut)? as usize;
        if rest.len() < key_len.saturating_add(value_len) {
            return Err(RestoreError::Damaged("a row is cut short"));
        }
        batch.put(*space, rest.split_to(key_len), rest.split_to(value_len));
        rows += 1;
        if batch.len() == RESTORE_ROWS {
            backend.write(std::mem::take(&mut batch))?;
        }
    }
    if rest.try_get_u64().map_err(cut)? != rows {
        return Err(RestoreError::Damaged("rows are missing"));
    }
    backend.write(batch)?;
    Ok(())
}
