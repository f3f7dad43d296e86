//! One backup as a stream of bytes: content, zstd, envelope. And what is found instead of one.
//!
//! Not where it lies. Invariant: the end of what `open` gives is reached only if every layer ended where it should.

use std::io::{self, BufReader, Read, Write};

use sha2::{Digest as _, Sha256};
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use super::key::Secret;
use super::seal::{ManifestKey, Opener, SealError, Sealer};

/// zstd's default: our content is mostly protobuf and JSON, and higher levels cost more than they save.
const LEVEL: i32 = 3;
/// Windows up to 8 MiB, which is all that levels up to 19 use: a crafted file must not make us reserve gigabytes.
const WINDOW_LOG_MAX: u32 = 23;
/// The content of `Maintenance.Snapshot`.
const RAW_MAGIC: &[u8; 8] = b"CORTENB1";
/// Where bbolt, the file format of etcd's own snapshots, has its mark.
const BBOLT_MAGIC_AT: usize = 16;
const BBOLT_MAGIC: u32 = 0xED0C_DAED;
/// What is looked at to tell files apart.
const PEEK_BYTES: usize = 20;

/// Why a file is no backup that can be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The envelope does not open.
    #[error("the backup cannot be opened")]
    Seal(#[from] SealError),
    /// It is etcd's.
    #[error("it is a snapshot of etcd itself (a bbolt file): it can be restored, and nothing else")]
    Bbolt,
    /// It cannot be read.
    #[error("cannot read the backup")]
    Io(#[from] io::Error),
}

/// What was written.
pub(crate) struct Written<W> {
    pub(crate) to: W,
    pub(crate) key: Option<ManifestKey>,
}

/// Compresses and seals what is written to it.
pub(crate) struct Packer<W: Write>(Encoder<'static, Sealer<W>>);

impl<W: Write> Packer<W> {
    pub(crate) fn begin(to: W, secret: &Secret) -> io::Result<Self> {
        let mut encoder = Encoder::new(Sealer::begin(to, secret)?, LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self(encoder))
    }

    pub(crate) fn finish(self) -> io::Result<Written<W>> {
        let (to, key) = self.0.finish()?.finish()?;
        Ok(Written { to, key })
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Opens a backup of `corten backup`, or the bare content that `etcdctl snapshot save` stores. Gives the content and, for
/// an encrypted one, what authenticates its manifest.
pub fn open<'a>(
    mut from: impl Read + Send + 'a,
    secret: &Secret,
) -> Result<Box<dyn Read + Send + 'a>, OpenError> {
    let mut head = Vec::with_capacity(PEEK_BYTES);
    (&mut from).take(PEEK_BYTES as u64).read_to_end(&mut head)?;
    let mark = head.get(BBOLT_MAGIC_AT..).unwrap_or_default();
    if mark == BBOLT_MAGIC.to_le_bytes() {
        return Err(OpenError::Bbolt);
    }
    let raw = head.starts_with(RAW_MAGIC);
    let whole = io::Cursor::new(head).chain(from);
    if raw {
        return Ok(Box::new(whole));
    }
    Ok(Box::new(unpack(whole, secret)?.0))
}

/// Opens what a `Packer` wrote.
pub(crate) fn unpack<R: Read>(
    from: R,
    secret: &Secret,
) -> Result<(Content<R>, Option<ManifestKey>), OpenError> {
    let opener = Opener::begin(from, secret)?;
    let key = opener.manifest_key();
    let mut decoder = Decoder::new(opener)?.single_frame();
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok((Content(Some(decoder)), key))
}

/// The content of a packed file.
pub(crate) struct Content<R: Read>(Option<Decoder<'static, BufReader<Opener<R>>>>);

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(decoder) = &mut self.0 else {
            return Ok(0);
        };
        let count = decoder.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(decoder) = self.0.take()
            && decoder.finish().read(&mut [0])? != 0
        {
            let what = "something follows the end of the backup";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(count)
    }
}

/// Counts and hashes what passes.
pub(crate) struct Counted<T> {
    pub(crate) inner: T,
    pub(crate) bytes: u64,
    hash: Sha256,
}

impl<T> Counted<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner,
            bytes: 0,
            hash: Sha256::new(),
        }
    }

    /// SHA-256 of what has passed.
    pub(crate) fn sha256(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A packed file of this content.
#[cfg(test)]
pub(crate) fn pack_for_tests(secret: &Secret, content: &[u8]) -> Vec<u8> {
    let mut packer = Packer::begin(Vec::new(), secret).expect("begun");
    packer.write_all(content).expect("written");
    packer.finish().expect("finished").to
}

/// A sealed file of these bytes, whatever they are.
#[cfg(test)]
pub(crate) fn seal_for_tests(secret: &Secret, bytes: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::begin(Vec::new(), secret).expect("begun");
    sealer.write_all(bytes).expect("written");
    sealer.finish().expect("finished").0
}
