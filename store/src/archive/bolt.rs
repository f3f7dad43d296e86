//! Reading a bbolt file, the format of etcd's own snapshots: buckets of ordered pairs on pages.
//!
//! Not writing one, and not what the pairs mean (`etcd`). Invariant: whatever the bytes are, reading ends: pages lie within
//! the file, and no more are read than there are.
//!
//! ```text
//!   page    id (8) flags (2) count (2) further pages (4), then:
//!   meta    magic (4) version (4) page size (4) flags (4) root page (8) sequence (8) free list (8) pages (8)
//!           transaction (8) checksum (8): two of them, the newer one that is whole counts
//!   branch  { offset (4) key length (4) page (8) }    offsets count from their own element
//!   leaf    { flags (4) offset (4) key length (4) value length (4) }    flag 1: the value is a bucket:
//!           root page (8) sequence (8), and behind them, if the root is 0, a page of its own
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bytes::{Buf as _, Bytes};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Where the mark of the first meta page is.
const MAGIC_AT: u64 = 16;
const PAGE_HEAD: usize = 16;
const META_LEN: usize = 64;
const ELEMENT: usize = 16;
const BUCKET_HEAD: usize = 16;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
/// In a leaf's element: the value is a bucket.
const IS_BUCKET: u32 = 0x01;
/// Sizes that a page may have.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 9..=16;
/// A tree of this depth would hold more than any disk.
const DEPTH_MAX: u32 = 32;
/// The longest run of pages that belong together: one pair is at most this large in etcd, by far.
const RUN_BYTES_MAX: u64 = 32 << 20;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BoltError {
    /// The disk.
    #[error("cannot read the file")]
    Io(#[from] io::Error),
    /// It is no such file, or it was changed.
    #[error("the bbolt file is damaged: {0}")]
    Damaged(&'static str),
}

type Result<T> = std::result::Result<T, BoltError>;

const CUT: BoltError = BoltError::Damaged("something lies beyond its page");

/// Where the bytes are.
pub(crate) trait Source {
    fn len(&self) -> io::Result<u64>;
    fn read(&self, at: u64, len: usize) -> io::Result<Bytes>;
}

impl Source for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, at)?;
        Ok(bytes.into())
    }
}

/// An open file.
pub(super) struct Bolt<'a> {
    source: &'a dyn Source,
    page_bytes: u64,
    /// Pages that there are.
    pages: u64,
    root: u64,
}

/// Pairs of their own within the file.
#[derive(Debug, Clone)]
pub(super) enum Bucket {
    /// A tree from this page on.
    Tree(u64),
    /// One page, within another.
    Inline(Bytes),
}

/// Whether a file has bbolt's mark.
pub(super) fn is_bolt(source: &dyn Source) -> io::Result<bool> {
    if source.len()? < MAGIC_AT + META_LEN as u64 {
        return Ok(false);
    }
    Ok(source.read(MAGIC_AT, 4)?.get_u32_le() == MAGIC)
}

struct Meta {
    page_bytes: u64,
    root: u64,
    pages: u64,
    transaction: u64,
}

fn meta(source: &dyn Source, at: u64) -> Option<Meta> {
    let page = source.read(at, PAGE_HEAD + META_LEN).ok()?;
    let mut meta = page.slice(PAGE_HEAD..);
    let expected = fnv1a(&meta[..META_LEN - 8]);
    let is_ours = meta.get_u32_le() == MAGIC && meta.get_u32_le() == VERSION;
    let page_bytes = u64::from(meta.get_u32_le());
    meta.advance(4);
    let root = meta.get_u64_le();
    meta.advance(16);
    let pages = meta.get_u64_le();
    let transaction = meta.get_u64_le();
    let whole = is_ours && meta.get_u64_le() == expected;
    whole.then_some(Meta {
        page_bytes,
        root,
        pages,
        transaction,
    })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl<'a> Bolt<'a> {
    pub(super) fn open(source: &'a dyn Source) -> Result<Self> {
        let sizes = PAGE_SIZES.map(|bits| 1_u64 << bits);
        let metas = std::iter::once(0).chain(sizes);
        let metas = metas.filter_map(|at| Some((at, meta(source, at)?)));
        // The second one lies where its own page size says.
        let metas = metas.filter(|(at, meta)| *at == 0 || *at == meta.page_bytes);
        let newest = metas
            .map(|(_, meta)| meta)
            .max_by_key(|meta| meta.transaction);
        let meta = newest.ok_or(BoltError::Damaged("it has no whole head"))?;
        let known = PAGE_SIZES
            .map(|bits| 1 << bits)
            .any(|size| size == meta.page_bytes);
        if !known
            || meta
                .pages
                .checked_mul(meta.page_bytes)
                .is_none_or(|end| source.len().is_ok_and(|len| end > len))
        {
            return Err(BoltError::Damaged("its head says more than there is"));
        }
        Ok(Self {
            source,
            page_bytes: meta.page_bytes,
            pages: meta.pages,
            root: meta.root,
        })
    }

    /// A bucket by its name.
    pub(super) fn bucket(&self, name: &str) -> Result<Option<Bucket>> {
        let mut found = None;
        self.walk(&Bucket::Tree(self.root), &mut |is_bucket, key, value| {
            if is_bucket && key == name.as_bytes() {
                found = Some(as_bucket(value)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// All pairs of a bucket, in order.
    pub(super) fn each<E: From<BoltError>>(
        &self,
        bucket: &Bucket,
        mut take: impl FnMut(Bytes, Bytes) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut refused = None;
        let walked = self.walk(bucket, &mut |is_bucket, key, value| {
            if is_bucket {
                return Ok(());
            }
            take(key, value).map_err(|error| {
                refused = Some(error);
                BoltError::Damaged("refused")
            })
        });
        match refused {
            Some(error) => Err(error),
            None => Ok(walked?),
        }
    }

    fn walk(
        &self,
        bucket: &Bucket,
        take: &mut dyn FnMut(bool, Bytes, Bytes) -> Result<()>,
    ) -> Result<()> {
        let mut walk = Walk {
            bolt: self,
            take,
            left: self.pages,
        };
        match bucket {
            Bucket::Tree(page) => walk.page(*page, DEPTH_MAX),
            Bucket::Inline(page) => walk.content(page, DEPTH_MAX),
        }
    }

    /// A page with those that belong to it.
    fn read(&self, id: u64) -> Result<Bytes> {
        if id >= self.pages {
            return Err(BoltError::Damaged("a page beyond its end"));
        }
        let at = id * self.page_bytes;
        let mut head = self.source.read(at, PAGE_HEAD)?;
        head.advance(12);
        let run = u64::from(head.get_u32_le()) + 1;
        let len = run
            .checked_mul(self.page_bytes)
            .filter(|len| *len <= RUN_BYTES_MAX);
        let len = len.filter(|_| run <= self.pages - id);
        let len = len.and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or(BoltError::Damaged("a page that is too long"))?;
        Ok(self.source.read(at, len)?)
    }
}

/// A walk over a tree.
struct Walk<'a> {
    bolt: &'a Bolt<'a>,
    take: &'a mut dyn FnMut(bool, Bytes, Bytes) -> Result<()>,
    /// Pages that may still be read: in a tree each is read once.
    left: u64,
}

impl Walk<'_> {
    fn page(&mut self, id: u64, depth: u32) -> Result<()> {
        let (Some(left), Some(depth)) = (self.left.checked_sub(1), depth.checked_sub(1)) else {
            return Err(BoltError::Damaged("its pages go in circles"));
        };
        self.left = left;
        let page = self.bolt.read(id)?;
        self.content(&page, depth)
    }

    fn content(&mut self, page: &Bytes, depth: u32) -> Result<()> {
        let mut head = part(page, 8, 4)?;
        let (flags, count) = (head.get_u16_le(), usize::from(head.get_u16_le()));
        for number in 0..count {
            let at = PAGE_HEAD + number * ELEMENT;
            let mut element = part(page, at, ELEMENT)?;
            if flags & BRANCH != 0 {
                element.advance(8);
                self.page(element.get_u64_le(), depth)?;
            } else if flags & LEAF != 0 {
                let kind = element.get_u32_le();
                let mut field = || element.get_u32_le() as usize;
                let (offset, key_len, value_len) = (field(), field(), field());
                let key = part(page, at + offset, key_len)?;
                let value = part(page, at + offset + key_len, value_len)?;
                (self.take)(kind & IS_BUCKET != 0, key, value)?;
            } else {
                return Err(BoltError::Damaged("a page of another kind in a tree"));
            }
        }
        Ok(())
    }
}

fn part(page: &Bytes, at: usize, len: usize) -> Result<Bytes> {
    let end = at.checked_add(len).filter(|end| *end <= page.len());
    Ok(page.slice(at..end.ok_or(CUT)?))
}

fn as_bucket(value: Bytes) -> Result<Bucket> {
    match part(&value, 0, BUCKET_HEAD)?.get_u64_le() {
        0 => Ok(Bucket::Inline(value.slice(BUCKET_HEAD..))),
        page => Ok(Bucket::Tree(page)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
