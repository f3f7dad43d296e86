//! The envelope against everything that can happen to a file.

use std::io::{Read as _, Write as _};

use super::*;

fn key(byte: u8) -> Secret {
    Secret::Key([byte; 32])
}

fn seal(content: &[u8], secret: &Secret) -> Vec<u8> {
    let mut sealer = Sealer::begin(Vec::new(), secret).expect("begun");
    sealer.write_all(content).expect("written");
    sealer.finish().expect("finished").0
}

fn open(sealed: &[u8], secret: &Secret) -> Result<Vec<u8>, String> {
    let mut opener = Opener::begin(sealed, secret).map_err(|error| error.to_string())?;
    let mut content = Vec::new();
    opener
        .read_to_end(&mut content)
        .map_err(|error| error.to_string())?;
    Ok(content)
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 / 7) as u8).collect()
}

#[test]
fn what_is_sealed_opens_at_every_length_around_a_chunk() {
    let passphrase =
        Secret::passphrase(b"correct horse battery staple".to_vec()).expect("long enough");
    for len in [
        0,
        1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        2 * CHUNK_BYTES,
        3 * CHUNK_BYTES + 17,
    ] {
        let content = content(len);
        for secret in [Secret::None, key(1)] {
            let opened = open(&seal(&content, &secret), &secret).expect("opens");
            assert!(opened == content, "{len}");
        }
    }
    let sealed = seal(b"content", &passphrase);
    assert_eq!(open(&sealed, &passphrase).expect("opens"), b"content");
    assert!(!sealed.windows(7).any(|bytes| bytes == b"content"));
}

#[test]
fn no_byte_can_be_changed() {
    let sealed = seal(&content(CHUNK_BYTES + 100), &key(1));
    let places = (0..HEADER_BYTES + 40).chain((HEADER_BYTES + 40..sealed.len()).step_by(997));
    for place in places.chain(sealed.len() - 20..sealed.len()) {
        let mut changed = sealed.clone();
        changed[place] ^= 0x10;
        assert!(open(&changed, &key(1)).is_err(), "byte {place}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let sealed = seal(&content(2 * CHUNK_BYTES), &key(1));
    let chunk = CHUNK_BYTES + TAG_BYTES;
    for len in [
        0,
        10,
        HEADER_BYTES - 1,
        HEADER_BYTES,
        HEADER_BYTES + 5,
        HEADER_BYTES + chunk,
        HEADER_BYTES + chunk + 1,
        sealed.len() - 1,
    ] {
        assert!(open(&sealed[..len], &key(1)).is_err(), "{len}");
    }
    let longer = [&sealed[..], &[0]].concat();
    assert!(open(&longer, &key(1)).is_err());
}

#[test]
fn chunks_cannot_change_places_or_files() {
    let sealed = seal(&content(3 * CHUNK_BYTES), &key(1));
    let chunk = CHUNK_BYTES + TAG_BYTES;
    let part = |n: usize| &sealed[HEADER_BYTES + n * chunk..HEADER_BYTES + (n + 1) * chunk];
    let header = &sealed[..HEADER_BYTES];
    for order in [[1, 0, 2], [0, 2, 1], [0, 0, 2], [0, 1, 1]] {
        let parts: Vec<&[u8]> = order.iter().map(|n| part(*n)).collect();
        let file = [&[header], &parts[..]].concat().concat();
        assert!(open(&file, &key(1)).is_err(), "{order:?}");
    }
    assert!(open(&[header, part(0), part(2)].concat(), &key(1)).is_err());
    // The same content under the same key is another file.
    let other = seal(&content(3 * CHUNK_BYTES), &key(1));
    let mixed = [header, &other[HEADER_BYTES..]].concat();
    assert!(open(&mixed, &key(1)).is_err());
}

#[test]
fn a_wrong_key_is_told_from_damage_and_from_a_missing_one() {
    let sealed = seal(b"content", &key(1));
    let words = |secret: &Secret| open(&sealed, secret).expect_err("does not open");
    assert!(
        words(&key(2)).contains("wrong key file"),
        "{}",
        words(&key(2))
    );
    assert!(words(&Secret::None).contains("encrypted with a key file"));
    let passphrase = Secret::passphrase(b"0123456789abcdef".to_vec()).expect("long enough");
    assert!(words(&passphrase).contains("encrypted with a key file"));
    let plain = seal(b"content", &Secret::None);
    let error = open(&plain, &key(1)).expect_err("may have been replaced");
    assert!(error.contains("not encrypted"), "{error}");
}

#[test]
fn a_header_cannot_ask_for_work_without_end() {
    let passphrase = Secret::passphrase(b"0123456789abcdef".to_vec()).expect("long enough");
    let mut sealed = seal(b"content", &passphrase);
    sealed[9..13].copy_from_slice(&u32::MAX.to_be_bytes());
    let error = open(&sealed, &passphrase).expect_err("refused");
    assert!(error.contains("rounds"), "{error}");
}
