//! bbolt files made here, page by page, read back.

use bytes::{BufMut as _, BytesMut};

use super::*;

const PAGE: usize = 4096;

impl Source for Bytes {
    fn len(&self) -> io::Result<u64> {
        Ok(Bytes::len(self) as u64)
    }

    fn read(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let end = at.checked_add(len).filter(|end| *end <= Bytes::len(self));
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(self.slice(at..end))
    }
}

type Pair = (Vec<u8>, Vec<u8>);

fn head(id: u64, flags: u16, count: usize, further: usize) -> BytesMut {
    let mut page = BytesMut::new();
    page.put_u64_le(id);
    page.put_u16_le(flags);
    page.put_u16_le(u16::try_from(count).expect("few"));
    page.put_u32_le(u32::try_from(further).expect("few"));
    page
}

/// A leaf, on as many pages as it takes; or of exactly its length, for one within another page.
fn leaf(id: u64, pairs: &[(u32, Pair)], padded: bool) -> Vec<u8> {
    let long = |len: usize| u32::try_from(len).expect("short");
    let content: usize = pairs
        .iter()
        .map(|(_, (key, value))| key.len() + value.len())
        .sum();
    let len = PAGE_HEAD + pairs.len() * ELEMENT + content;
    let mut page = head(id, LEAF, pairs.len(), len.div_ceil(PAGE) - 1);
    let mut data = PAGE_HEAD + pairs.len() * ELEMENT;
    for (number, (flags, (key, value))) in pairs.iter().enumerate() {
        page.put_u32_le(*flags);
        page.put_u32_le(long(data - (PAGE_HEAD + number * ELEMENT)));
        page.put_u32_le(long(key.len()));
        page.put_u32_le(long(value.len()));
        data += key.len() + value.len();
    }
    for (_, (key, value)) in pairs {
        page.put_slice(key);
        page.put_slice(value);
    }
    if padded {
        page.resize(len.next_multiple_of(PAGE), 0);
    }
    page.to_vec()
}

fn meta_page(id: u64, transaction: u64, root: u64, pages: u64) -> Vec<u8> {
    let mut page = head(id, 0x04, 0, 0);
    page.put_u32_le(MAGIC);
    page.put_u32_le(VERSION);
    page.put_u32_le(u32::try_from(PAGE).expect("small"));
    page.put_u32_le(0);
    page.put_u64_le(root);
    page.put_u64_le(0);
    page.put_u64_le(u64::MAX);
    page.put_u64_le(pages);
    page.put_u64_le(transaction);
    let sum = fnv1a(&page[PAGE_HEAD..]);
    page.put_u64_le(sum);
    page.resize(PAGE, 0);
    page.to_vec()
}

/// A file with these buckets: the first one as a tree of two leaves, the others within the page of the root.
pub(crate) fn file(buckets: &[(&str, Vec<Pair>)]) -> Vec<u8> {
    let plain = |pairs: &[Pair]| -> Vec<(u32, Pair)> {
        pairs.iter().map(|pair| (0, pair.clone())).collect()
    };
    let mut pages = vec![0; 3 * PAGE];
    let next = |pages: &Vec<u8>| (pages.len() / PAGE) as u64;
    let mut root = Vec::new();
    for (number, (name, pairs)) in buckets.iter().enumerate() {
        let mut value = BytesMut::new();
        if number > 0 {
            value.put_u64_le(0);
            value.put_u64_le(0);
            value.put_slice(&leaf(0, &plain(pairs), false));
        } else {
            let (left, right) = pairs.split_at(pairs.len() / 2);
            let mut branch = BytesMut::new();
            for half in [left, right] {
                branch.put_u32_le(0);
                branch.put_u32_le(0);
                branch.put_u64_le(next(&pages));
                let page = leaf(next(&pages), &plain(half), true);
                pages.extend(page);
            }
            value.put_u64_le(next(&pages));
            value.put_u64_le(0);
            let mut page = head(next(&pages), BRANCH, 2, 0);
            page.put_slice(&branch);
            page.resize(PAGE, 0);
            pages.extend(page);
        }
        root.push((IS_BUCKET, (name.as_bytes().to_vec(), value.to_vec())));
    }
    root.sort();
    let root = leaf(2, &root, true);
    assert_eq!(root.len(), PAGE, "a small root");
    pages[2 * PAGE..3 * PAGE].copy_from_slice(&root);
    let count = next(&pages);
    // The older one names a root that is none.
    pages[..PAGE].copy_from_slice(&meta_page(0, 7, 999, count));
    pages[PAGE..2 * PAGE].copy_from_slice(&meta_page(1, 8, 2, count));
    pages
}

fn pairs(count: usize, len: usize) -> Vec<Pair> {
    (0..count)
        .map(|number| (format!("{number:04}").into_bytes(), vec![b'v'; len]))
        .collect()
}

fn read_all(bolt: &Bolt<'_>, name: &str) -> Vec<Pair> {
    let bucket = bolt.bucket(name).expect("read").expect("there");
    let mut found = Vec::new();
    bolt.each(&bucket, |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        Ok::<_, BoltError>(())
    })
    .expect("read");
    found
}

#[test]
fn pairs_come_back_in_order_from_trees_and_from_within_pages() {
    let (many, few) = (pairs(60, 700), pairs(3, 10));
    let bytes = Bytes::from(file(&[("key", many.clone()), ("lease", few.clone())]));
    assert!(is_bolt(&bytes).expect("read"));
    let bolt = Bolt::open(&bytes).expect("opened");
    assert_eq!(read_all(&bolt, "key"), many);
    assert_eq!(read_all(&bolt, "lease"), few);
    assert!(bolt.bucket("none").expect("read").is_none());
}

#[test]
fn a_head_that_is_not_whole_leaves_the_other() {
    let mut bytes = file(&[("key", pairs(4, 10))]);
    bytes[PAGE + 40] ^= 1;
    let older = Bytes::from(bytes.clone());
    let bolt = Bolt::open(&older).expect("the older head");
    assert!(bolt.bucket("key").is_err(), "its root is beyond the end");
    bytes[40] ^= 1;
    assert!(Bolt::open(&Bytes::from(bytes)).is_err());
    assert!(!is_bolt(&Bytes::from_static(b"short")).expect("read"));
}

#[test]
fn pages_that_go_in_circles_end() {
    let mut bytes = file(&[("key", pairs(4, 10))]);
    // The branch names itself.
    let branch = bytes.len() / PAGE - 1;
    let at = branch * PAGE + PAGE_HEAD + 8;
    bytes[at..at + 8].copy_from_slice(&(branch as u64).to_le_bytes());
    let bytes = Bytes::from(bytes);
    let bolt = Bolt::open(&bytes).expect("opened");
    let bucket = bolt.bucket("key").expect("read").expect("there");
    let ended = bolt.each(&bucket, |_, _| Ok::<_, BoltError>(()));
    assert!(matches!(ended, Err(BoltError::Damaged(_))));
}
