//! The envelope of a backup file: nothing but a header, or authenticated encryption of everything after it.
//!
//! Not compression, and not the content. Invariant: no byte is handed out before the chunk it is in has been
//! authenticated in its place, and the end is an end only when the last chunk says so. Hence bit flips, reordered, lost and
//! repeated chunks, and a file cut between chunks, are all found.
//!
//! ```text
//!   magic (8)  kind (1)  iterations (4)  salt (32)  check (16)  { chunk }*
//!   chunk = AES-256-GCM of up to 64 KiB, nonce = counter (11) last (1)
//! ```
//! The key of a file is derived (HKDF-SHA-256) from the given secret and the header, salt included: it is used for this
//! file alone, so counters never meet again under one key. The check, derived alike, tells a wrong key from damage.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use aws_lc_rs::{hkdf, hmac};

use super::key::{Secret, SecretKind};

const MAGIC: &[u8; 8] = b"CORTENA1";
/// Bytes of content in a chunk; all but the last are full.
const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;
const SALT_BYTES: usize = 32;
const CHECK_BYTES: usize = 16;
const HEADER_BYTES: usize = MAGIC.len() + 1 + 4 + SALT_BYTES + CHECK_BYTES;
/// Domain of the keys derived here.
const INFO: &[u8] = b"corten backup 1";

/// Why a file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It begins differently.
    #[error("not a backup of `corten backup`")]
    Magic,
    /// It is of a newer kind.
    #[error("sealed in a way that this version does not know (kind {0})")]
    Kind(u8),
    /// It is encrypted and no key was given.
    #[error("it is encrypted with a {0}; give one")]
    NeedsKey(&'static str),
    /// A key was given for one that is not encrypted.
    #[error("it is not encrypted, though a key was given: it may have been replaced")]
    NotEncrypted,
    /// The key is another one.
    #[error("wrong {0}: it was sealed with another one")]
    WrongKey(&'static str),
    /// The header asks for work without end.
    #[error("damaged: its header asks for {0} rounds of key derivation")]
    Rounds(u32),
    /// It could not be read.
    #[error("cannot read it")]
    Io(#[from] io::Error),
}

/// What stands before the chunks.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    kind: SecretKind,
    iterations: u32,
    salt: [u8; SALT_BYTES],
}

/// Keys of one file.
struct Keys {
    check: [u8; CHECK_BYTES],
    chunks: LessSafeKey,
    manifest: hmac::Key,
}

impl Header {
    fn new(secret: &Secret) -> io::Result<Self> {
        let mut salt = [0; SALT_BYTES];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| io::Error::other("no randomness"))?;
        Ok(Self {
            kind: secret.kind(),
            iterations: secret.iterations(),
            salt,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(self.kind.number());
        bytes.extend_from_slice(&self.iterations.to_be_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes
    }

    fn keys(&self, secret: &Secret) -> Option<Keys> {
        let material = secret.material(&self.salt, self.iterations)?;
        // Everything of the header goes into the keys: a header that was changed opens nothing.
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &self.encode()).extract(&material);
        let expand = |what: &[u8]| {
            let mut out = [0; 32];
            extracted
                .expand(&[INFO, what], hkdf::HKDF_SHA256)
                .and_then(|key| key.fill(&mut out))
                .expect("32 bytes are what HKDF-SHA-256 gives at once");
            out
        };
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&expand(b"check")[..CHECK_BYTES]);
        let chunks = UnboundKey::new(&AES_256_GCM, &expand(b"chunks"));
        Some(Keys {
            check,
            chunks: LessSafeKey::new(chunks.expect("32 bytes are a key of AES-256")),
            manifest: hmac::Key::new(hmac::HMAC_SHA256, &expand(b"manifest")),
        })
    }
}

fn nonce(counter: u64, last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[3..11].copy_from_slice(&counter.to_be_bytes());
    bytes[11] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

/// Seals what is written to it. What was not finished does not open.
pub(crate) struct Sealer<W> {
    to: W,
    keys: Option<Keys>,
    chunk: Vec<u8>,
    counter: u64,
}

impl<W: Write> Sealer<W> {
    pub(crate) fn begin(mut to: W, secret: &Secret) -> io::Result<Self> {
        let header = Header::new(secret)?;
        let keys = header.keys(secret);
        to.write_all(&header.encode())?;
        let check = keys
            .as_ref()
            .map_or([0; CHECK_BYTES], |keys: &Keys| keys.check);
        to.write_all(&check)?;
        Ok(Self {
            to,
            keys,
            chunk: Vec::with_capacity(CHUNK_BYTES + TAG_BYTES),
            counter: 0,
        })
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let Some(keys) = &self.keys else {
            return Ok(());
        };
        let nonce = nonce(self.counter, last);
        let tag: Tag = keys
            .chunks
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut self.chunk)
            .map_err(|_| io::Error::other("a chunk cannot be sealed"))?;
        self.to.write_all(&self.chunk)?;
        self.to.write_all(tag.as_ref())?;
        self.chunk.clear();
        self.counter += 1;
        Ok(())
    }

    /// Seals the rest. Gives what is below, and the code over `manifest` if there is a key.
    pub(crate) fn finish(mut self) -> io::Result<(W, Option<ManifestKey>)> {
        self.seal(true)?;
        self.to.flush()?;
        Ok((self.to, self.keys.map(|keys| ManifestKey(keys.manifest))))
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.keys.is_none() {
            return self.to.write(bytes);
        }
        // Only when more comes: the last chunk must be known as the last.
        if self.chunk.len() == CHUNK_BYTES {
            self.seal(false)?;
        }
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Authenticates the manifest of an encrypted backup.
pub(crate) struct ManifestKey(hmac::Key);

impl ManifestKey {
    pub(crate) fn sign(&self, manifest: &[u8]) -> String {
        hex::encode(hmac::sign(&self.0, manifest))
    }

    pub(crate) fn verify(&self, manifest: &[u8], code: &str) -> bool {
        hex::decode(code).is_ok_and(|code| hmac::verify(&self.0, manifest, &code).is_ok())
    }
}

/// Opens what a `Sealer` wrote.
pub(crate) struct Opener<R> {
    from: R,
    keys: Option<Keys>,
    /// The open chunk, and how much of it has been handed out.
    chunk: Vec<u8>,
    given: usize,
    /// Read ahead, to know whether a chunk is the last.
    ahead: Vec<u8>,
    counter: u64,
    ended: bool,
}

impl<R> std::fmt::Debug for Opener<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

impl<R: Read> Opener<R> {
    pub(crate) fn begin(mut from: R, secret: &Secret) -> Result<Self, SealError> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        (&mut from)
            .take(HEADER_BYTES as u64)
            .read_to_end(&mut bytes)?;
        if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
            return Err(SealError::Magic);
        }
        let (kind, rest) = (bytes[8], &bytes[9..]);
        let kind = SecretKind::of(kind).ok_or(SealError::Kind(kind))?;
        let iterations = u32::from_be_bytes(rest[..4].try_into().expect("four bytes"));
        let salt = rest[4..4 + SALT_BYTES].try_into().expect("as long as that");
        let header = Header {
            kind,
            iterations,
            salt,
        };
        if kind == SecretKind::None && secret.kind() != SecretKind::None {
            return Err(SealError::NotEncrypted);
        }
        if kind != secret.kind() {
            return Err(SealError::NeedsKey(kind.words()));
        }
        if !kind.admits(iterations) {
            return Err(SealError::Rounds(iterations));
        }
        let keys = header.keys(secret);
        if let Some(keys) = &keys
            && keys.check != rest[4 + SALT_BYTES..]
        {
            return Err(SealError::WrongKey(kind.words()));
        }
        Ok(Self {
            from,
            keys,
            chunk: Vec::new(),
            given: 0,
            ahead: Vec::new(),
            counter: 0,
            ended: false,
        })
    }

    /// The key of the manifest, if there is a key at all.
    pub(crate) fn manifest_key(&self) -> Option<ManifestKey> {
        self.keys
            .as_ref()
            .map(|keys| ManifestKey(keys.manifest.clone()))
    }

    fn fill_ahead(&mut self) -> io::Result<()> {
        let wanted = CHUNK_BYTES + TAG_BYTES - self.ahead.len();
        (&mut self.from)
            .take(wanted as u64)
            .read_to_end(&mut self.ahead)?;
        Ok(())
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if self.counter == 0 {
            self.fill_ahead()?;
        }
        std::mem::swap(&mut self.chunk, &mut self.ahead);
        self.ahead.clear();
        self.given = 0;
        self.fill_ahead()?;
        let last = self.ahead.is_empty();
        let keys = self.keys.as_ref().expect("chunks are of sealed files");
        let len = keys
            .chunks
            .open_in_place(nonce(self.counter, last), Aad::empty(), &mut self.chunk)
            .map_err(|_| {
                damaged(if last {
                    "the file is damaged or cut short"
                } else {
                    "the file is damaged"
                })
            })?
            .len();
        self.chunk.truncate(len);
        // Only a file without content has an empty chunk.
        if len == 0 && self.counter > 0 {
            return Err(damaged("the file is damaged: an empty chunk"));
        }
        self.counter += 1;
        self.ended = last;
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.keys.is_none() {
            return self.from.read(buffer);
        }
        if self.given == self.chunk.len() && !self.ended {
            self.next_chunk()?;
        }
        let count = buffer.len().min(self.chunk.len() - self.given);
        buffer[..count].copy_from_slice(&self.chunk[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
