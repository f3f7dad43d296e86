//! Taking one backup from a running member, and reading one back.
//!
//! Not when, and not how many are kept. Invariant: what is reported as taken has been read back from where it lies, and its
//! keys hash to what the member says of that revision.

mod source;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use corten_base::tasks::{TaskKind, spawn};
use corten_store_core::{Facts, Revision};
use jiff::Timestamp;

use super::file::{Counted, OpenError, Packer, unpack};
use super::key::Secret;
use super::manifest::{self, Manifest, ManifestError};
use super::place::{Pipe, Place, PlaceError};
use super::seal::ManifestKey;
use crate::replica::backup::{self, RestoreError};

pub use source::{Login, Source, SourceError};

/// What the names of backups under way end with.
pub(crate) const PARTIAL: &str = ".partial";
/// How often a backup is taken anew when the member has compacted its revision meanwhile.
const TRIES: usize = 3;

/// How to take a backup.
#[derive(Debug, Clone)]
pub struct TakeOptions {
    /// What it is encrypted with.
    pub secret: Secret,
    /// Where it is put together when the place itself is no folder.
    pub scratch: PathBuf,
    /// Goes into the manifest.
    pub corten_version: String,
}

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What is known of it.
    pub manifest: Manifest,
}

/// Why no backup was taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The member cannot be asked.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The file cannot be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    /// What the member sent is no backup.
    #[error("what the member sent is not whole")]
    Content(#[source] RestoreError),
    /// It did not read back.
    #[error("the backup was written, but does not read back as it should; it has been removed")]
    Verify(#[source] VerifyError),
    /// The member compacts faster than the backup is taken.
    #[error(
        "the member had compacted revision {0} before its hash could be asked for, {TRIES} times: keep more history, or take \
         the backup closer to the member"
    )]
    Compacted(i64),
    /// The place refused it.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Why a backup is not good.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The place does not give it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its content is not whole.
    #[error("its content is not whole")]
    Content(#[from] RestoreError),
    /// It is not what its manifest says.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The thread that read it ended early.
    #[error("reading it ended early")]
    Ended(#[source] io::Error),
}

/// What came out of a stream that was written to a file.
struct Packed {
    facts: Facts,
    content_bytes: u64,
    stored_bytes: u64,
    stored_sha256: String,
    key: Option<ManifestKey>,
}

/// Takes a backup from a member to a place, and checks it there.
pub async fn take(
    source: &Source,
    place: &Place,
    options: &TakeOptions,
) -> Result<Taken, TakeError> {
    let mut last = 0;
    for _ in 0..TRIES {
        match Box::pin(take_once(source, place, options)).await {
            Err(TakeError::Compacted(revision)) => {
                tracing::warn!(revision, "compacted meanwhile; the backup is taken anew");
                last = revision;
            }
            result => return result,
        }
    }
    Err(TakeError::Compacted(last))
}

async fn take_once(
    source: &Source,
    place: &Place,
    options: &TakeOptions,
) -> Result<Taken, TakeError> {
    let taken_at = Timestamp::now();
    let member = source.connect().await?;
    let status = member.status().await.map_err(SourceError::Member)?;
    let header = status.header.unwrap_or_default();
    let salt: u16 = rand::random();
    let building = place.building_dir(&options.scratch).join(format!(
        ".{}{:x}-{salt:04x}{PARTIAL}",
        manifest::FILE_PREFIX,
        header.cluster_id
    ));
    let building = Building(building);
    let packed = receive(&member, &building.0, &options.secret).await?;
    let revision = packed.facts.revision.get();
    let hash = match member.hash_kv(revision).await {
        Ok(hash) => hash,
        Err(status) if status.code() == tonic::Code::OutOfRange => {
            return Err(TakeError::Compacted(revision));
        }
        Err(status) => return Err(SourceError::Member(status).into()),
    };
    let file = manifest::file_name(header.cluster_id, taken_at, revision, salt);
    let mut manifest = Manifest {
        format: Manifest::new_format(),
        file,
        cluster_id: format!("{:x}", header.cluster_id),
        member_id: format!("{:x}", header.member_id),
        taken_at,
        revision,
        compacted_revision: packed.facts.compacted.get(),
        rows: packed.facts.rows,
        keys: packed.facts.keys,
        hash_kv: hash.hash,
        hash_kv_compacted_revision: hash.compact_revision,
        content_bytes: packed.content_bytes,
        stored_bytes: packed.stored_bytes,
        stored_sha256: packed.stored_sha256,
        compression: "zstd".to_owned(),
        encryption: options.secret.kind().words().to_owned(),
        etcd_version: status.version,
        corten_version: options.corten_version.clone(),
        code: None,
    };
    if let Some(key) = &packed.key {
        manifest.sign(key);
    }
    store(place, &building.0, &manifest, &options.secret).await?;
    Ok(Taken { manifest })
}

/// Puts a packed file in its place, reads it back, and only then says that it is there.
async fn store(
    place: &Place,
    building: &Path,
    manifest: &Manifest,
    secret: &Secret,
) -> Result<(), TakeError> {
    if let Place::Folder(dir) = place {
        // Before it has a name: the rename changes nothing of what was read.
        let name = building.file_name().unwrap_or_default().to_string_lossy();
        let reader = Place::Folder(dir.clone()).open(&name).await?;
        let good = check(reader, manifest.clone(), secret.clone()).await;
        good.map_err(TakeError::Verify)?;
        place.put_file(building, &manifest.file).await?;
    } else {
        place.put_file(building, &manifest.file).await?;
        let good = match place.open(&manifest.file).await {
            Ok(reader) => check(reader, manifest.clone(), secret.clone()).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = good {
            place.remove(&manifest.file).await?;
            return Err(TakeError::Verify(error));
        }
    }
    let name = manifest::name_of(&manifest.file);
    place.put(&name, manifest.encode()).await?;
    Ok(())
}

/// A file in the making, removed with whatever becomes of it; once renamed there is nothing to remove.
struct Building(PathBuf);

impl Drop for Building {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.0.display(), "cannot remove a file that is no longer needed");
        }
    }
}

async fn receive(
    member: &source::Member,
    target: &Path,
    secret: &Secret,
) -> Result<Packed, TakeError> {
    let mut stream = member.snapshot().await.map_err(SourceError::Member)?;
    let (pieces, pipe) = Pipe::new();
    let feeder = spawn("backup-receive", TaskKind::Connection, async move {
        loop {
            match stream.message().await {
                Ok(Some(piece)) => {
                    // The writer has failed; its own error is the one to report.
                    if pieces.send(Ok(piece.blob)).await.is_err() {
                        return None;
                    }
                }
                Ok(None) => return None,
                Err(status) => {
                    let broken = Err(io::Error::other(status.clone()));
                    let _ = pieces.send(broken).await;
                    return Some(status);
                }
            }
        }
    });
    let (path, secret) = (target.to_owned(), secret.clone());
    let writing = tokio::task::spawn_blocking(move || pack(pipe, &path, &secret)).await;
    // The member's own words say more than "it broke off".
    if let Ok(Some(status)) = feeder.await {
        return Err(SourceError::Member(status).into());
    }
    writing.map_err(|error| TakeError::Write(target.to_owned(), io::Error::other(error)))?
}

fn pack(content: impl Read, path: &Path, secret: &Secret) -> Result<Packed, TakeError> {
    let failed = |error| TakeError::Write(path.to_owned(), error);
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed)?;
    let packer = Packer::begin(Counted::new(file), secret).map_err(failed)?;
    let mut copy = Copy {
        from: Counted::new(content),
        to: packer,
        failed: None,
    };
    let inspected = backup::inspect(&mut copy, None);
    if let Some(error) = copy.failed.take() {
        return Err(failed(error));
    }
    let facts = inspected.map_err(TakeError::Content)?;
    let content_bytes = copy.from.bytes;
    let written = copy.to.finish().map_err(failed)?;
    written.to.inner.sync_all().map_err(failed)?;
    Ok(Packed {
        facts,
        content_bytes,
        stored_bytes: written.to.bytes,
        stored_sha256: written.to.sha256(),
        key: written.key,
    })
}

/// Writes what is read through it, and tells failures of the two sides apart.
struct Copy<R, W> {
    from: R,
    to: W,
    failed: Option<io::Error>,
}

impl<R: Read, W: Write> Read for Copy<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if let Err(error) = self.to.write_all(&buffer[..count]) {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        Ok(count)
    }
}

/// Reads a backup of a place from its first byte to its last, and holds it against its manifest.
pub async fn verify(place: &Place, file: &str, secret: &Secret) -> Result<Manifest, VerifyError> {
    let manifest = place
        .get(&manifest::name_of(file), manifest::BYTES_MAX)
        .await?;
    let manifest = Manifest::decode(&manifest)?;
    Manifest::compare("name", &file.to_owned(), &manifest.file)?;
    let reader = place.open(file).await?;
    check(reader, manifest.clone(), secret.clone()).await?;
    Ok(manifest)
}

/// Copies a backup to a local file, for a restore that reads it twice.
pub async fn fetch(place: &Place, file: &str, to: &Path) -> Result<(), VerifyError> {
    let mut reader = place.open(file).await?;
    let to = to.to_owned();
    let copy = move || -> io::Result<()> {
        let mut file = File::create(&to)?;
        io::copy(&mut reader, &mut file)?;
        file.sync_all()
    };
    let copied = tokio::task::spawn_blocking(copy).await;
    copied
        .map_err(io::Error::other)
        .and_then(|copied| copied)
        .map_err(VerifyError::Ended)
}

/// Reads a backup in a local file from its first byte to its last, and holds it against its manifest. Blocks.
pub fn verify_file(file: &Path, manifest: &Manifest, secret: &Secret) -> Result<(), VerifyError> {
    let file = File::open(file).map_err(OpenError::from)?;
    check_blocking(file, manifest, secret)
}

async fn check(
    reader: Box<dyn Read + Send>,
    manifest: Manifest,
    secret: Secret,
) -> Result<(), VerifyError> {
    let check = move || check_blocking(reader, &manifest, &secret);
    match tokio::task::spawn_blocking(check).await {
        Ok(result) => result,
        Err(error) => Err(VerifyError::Ended(io::Error::other(error))),
    }
}

pub(crate) fn check_blocking(
    reader: impl Read,
    manifest: &Manifest,
    secret: &Secret,
) -> Result<(), VerifyError> {
    let mut stored = Counted::new(reader);
    let (content, key) = unpack(&mut stored, secret)?;
    // First, so that nothing is concluded from a manifest that was changed.
    manifest.check_code(key.as_ref())?;
    let mut content = Counted::new(content);
    let at = Revision::new(manifest.revision);
    let compacted = Revision::new(manifest.hash_kv_compacted_revision);
    let facts = backup::inspect(&mut content, Some((at, compacted)))?;
    let content_bytes = content.bytes;
    drop(content);
    let hash = facts.hash.map_or(0, |hash| hash.hash);
    Manifest::compare("SHA-256", &stored.sha256(), &manifest.stored_sha256)?;
    Manifest::compare("size", &stored.bytes, &manifest.stored_bytes)?;
    Manifest::compare("size uncompressed", &content_bytes, &manifest.content_bytes)?;
    Manifest::compare("revision", &facts.revision.get(), &manifest.revision)?;
    Manifest::compare(
        "compacted revision",
        &facts.compacted.get(),
        &manifest.compacted_revision,
    )?;
    Manifest::compare("number of rows", &facts.rows, &manifest.rows)?;
    Manifest::compare("number of keys", &facts.keys, &manifest.keys)?;
    Manifest::compare("hash over all keys", &hash, &manifest.hash_kv)?;
    Ok(())
}
