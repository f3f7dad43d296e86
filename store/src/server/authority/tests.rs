//! What etcdctl really sent, what RFC 7541 has as examples, and cuts at every byte.

use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;

use super::hpack::{Found, sanitize};
use super::*;

/// A header block of etcdctl 3.4.23 with `--endpoints=http://127.0.0.1:23999 endpoint status`.
const FROM_ETCDCTL: &[u8] = b"\x83\x86E\x97`\xa9$\x88-\x9d\xcbeq\xaf\xa0f\xa9%\xa8u\x10\xacnH\xd3j?\
    A\x90\x9d)\xae\xe3\x0c\x04N\xae\x05\xc0\xb8n\t\x97\xdf\x7f\
    _\x8b\x1du\xd0b\r&=LMedz\x8b\x9a\xca\xc8\xb4\xc7`+\xb2\xca\xec\xff@\x02te\x86M\x835\x05\xb1\x1f";
/// The same with `--endpoints=127.0.0.1:23999`.
const IN_ORDER: &[u8] = b"\x83\x86E\x97`\xa9$\x88-\x9d\xcbeq\xaf\xa0f\xa9%\xa8u\x10\xacnH\xd3j?\
    A\x8b\x08\x9d\\\x0b\x81p\xdc\x13/\xbe\xff\
    _\x8b\x1du\xd0b\r&=LMedz\x8b\x9a\xca\xc8\xb4\xc7`+\xb2\xca\xec\xff@\x02te\x86M\x835\x05\xb1\x1f";

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&len[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

fn connection(block: &[u8]) -> Vec<u8> {
    [
        PREFACE,
        &frame(4, 0, &[]),
        &frame(HEADERS, 4, block),
        &frame(0, 1, b"\0\0\0\0\0"),
    ]
    .concat()
}

/// What a reader gets of `bytes` that arrive in pieces of `piece`.
async fn through(bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut mock = tokio_stream::iter(
        bytes
            .chunks(piece)
            .map(|chunk| Ok::<_, io::Error>(Bytes::copy_from_slice(chunk)))
            .collect::<Vec<_>>(),
    );
    let reader = tokio_util::io::StreamReader::new(&mut mock);
    let mut tolerant = Tolerant::new(reader);
    let mut got = Vec::new();
    tolerant.read_to_end(&mut got).await.expect("read");
    got
}

#[test]
fn an_authority_with_a_scheme_is_replaced_by_one_of_its_length() {
    let Found::Replaced(block) = sanitize(FROM_ETCDCTL) else {
        panic!("not found")
    };
    let text = b"A\x16http---127.0.0.1-23999";
    assert_eq!("http://127.0.0.1:23999".len(), 0x16);
    assert!(
        block.windows(text.len()).any(|window| window == text),
        "{block:?}"
    );
    // And nothing else has changed.
    assert_eq!(block.len(), FROM_ETCDCTL.len() - 18 + text.len());
    assert_eq!(sanitize(&block), Found::InOrder);
}

#[test]
fn an_authority_in_order_stays() {
    assert_eq!(sanitize(IN_ORDER), Found::InOrder);
    // RFC 7541, C.4.1 and C.3.1: www.example.com, with and without Huffman.
    let huffman = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    assert_eq!(sanitize(huffman), Found::InOrder);
    assert_eq!(
        sanitize(b"\x82\x86\x84\x41\x0fwww.example.com"),
        Found::InOrder
    );
    // By its place in the table.
    assert_eq!(
        sanitize(b"\x82\x86\x84\xbe\x58\x08no-cache"),
        Found::Nothing
    );
}

#[test]
fn names_in_letters_are_known_too() {
    assert_eq!(
        sanitize(b"\x00\x0a:authority\x03a/b"),
        Found::Replaced(b"\x00\x0a:authority\x03a-b".to_vec())
    );
    let long = vec![b'/'; 300];
    let mut block = b"\x10\x0a:authority\x7f\xad\x01".to_vec();
    block.extend_from_slice(&long);
    let Found::Replaced(replaced) = sanitize(&block) else {
        panic!("not found")
    };
    assert_eq!(replaced.len(), block.len());
    assert_eq!(&replaced[replaced.len() - 300..], vec![b'-'; 300]);
}

#[test]
fn blocks_that_are_cut_or_damaged_are_left_alone() {
    for len in 0..FROM_ETCDCTL.len() {
        // At worst the authority is whole already; never a panic.
        let _ = sanitize(&FROM_ETCDCTL[..len]);
    }
    for bytes in [
        &b"\x41\xff\xff\xff\xff\xff\xff"[..],
        b"\x7f\xff\xff\xff\xff\xff",
        b"\x41\x8c\xff\xff\xff\xff",
    ] {
        assert_eq!(sanitize(bytes), Found::Nothing);
    }
}

#[test]
fn an_empty_authority_is_left_for_the_library_to_refuse() {
    for block in [&b"\x41\x00"[..], b"\x41\x80", b"\x01\x00"] {
        assert_eq!(sanitize(block), Found::Nothing);
    }
}

#[tokio::test]
async fn etcdctl_with_a_scheme_in_its_endpoint_is_let_in() {
    let Found::Replaced(block) = sanitize(FROM_ETCDCTL) else {
        panic!("not found")
    };
    let (sent, wanted) = (connection(FROM_ETCDCTL), connection(&block));
    for piece in 1..sent.len() {
        assert_eq!(through(&sent, piece).await, wanted, "in pieces of {piece}");
    }
    // Every request of the connection is looked at, not only the first.
    let more = [&sent[..], &frame(HEADERS, 4, FROM_ETCDCTL)].concat();
    let wanted = [&wanted[..], &frame(HEADERS, 4, &block)].concat();
    assert_eq!(through(&more, 7).await, wanted);
}

#[tokio::test]
async fn padding_and_priority_are_stepped_over() {
    let Found::Replaced(block) = sanitize(FROM_ETCDCTL) else {
        panic!("not found")
    };
    let padded = |block: &[u8]| [&b"\x03\x00\x00\x00\x00\x10"[..], block, b"\0\0\0"].concat();
    let flags = FLAG_PADDED | FLAG_PRIORITY | 4;
    let sent = [PREFACE, &frame(HEADERS, flags, &padded(FROM_ETCDCTL))].concat();
    let wanted = [PREFACE, &frame(HEADERS, flags, &padded(&block))].concat();
    assert_eq!(through(&sent, 10).await, wanted);
}

#[tokio::test]
async fn everything_else_passes_as_it_is() {
    let large = [PREFACE, &frame(0, 0, &vec![7; 100_000])].concat();
    for bytes in [
        connection(IN_ORDER),
        large,
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PRI * HT".to_vec(),
        Vec::new(),
        [&connection(IN_ORDER)[..], b"anything"].concat(),
        connection(IN_ORDER)[..40].to_vec(),
        // More padding than frame.
        [PREFACE, &frame(HEADERS, FLAG_PADDED, b"\xff\x82")].concat(),
    ] {
        for piece in [1, 5, 4096] {
            assert_eq!(through(&bytes, piece).await, bytes);
        }
    }
}

/// Frames with what may be headers, and noise.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..40);
    let block = prop_oneof![
        Just(FROM_ETCDCTL.to_vec()),
        Just(IN_ORDER.to_vec()),
        noise.clone(),
    ];
    let part = prop_oneof![
        4 => (0u8..10, any::<u8>(), block).prop_map(|(kind, flags, block)| frame(kind, flags, &block)),
        1 => noise,
    ];
    let parts = prop::collection::vec(part, 0..8);
    (any::<bool>(), parts).prop_map(|(begun, parts)| {
        let preface = if begun { PREFACE } else { &[] };
        [preface, &parts.concat()].concat()
    })
}

proptest! {
    #[test]
    fn any_header_block_is_read_or_left_alone(block in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Found::Replaced(replaced) = sanitize(&block) {
            prop_assert_eq!(sanitize(&replaced), Found::InOrder);
        }
    }

    #[test]
    fn what_comes_out_does_not_depend_on_how_it_arrives(bytes in traffic(), piece in 1usize..50) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let whole = runtime.block_on(through(&bytes, bytes.len().max(1)));
        prop_assert_eq!(runtime.block_on(through(&bytes, piece)), whole);
    }
}
