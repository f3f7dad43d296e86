//! Just enough of HPACK (RFC 7541) to find a literal `:authority` in a header block and to give it another value.
//!
//! Keeps no table: a header that is named by its place in the table was a literal once, and was put in order then.
//! Invariant: everything but the one value stays as it is, byte for byte, and that value keeps its decoded length.

use http::uri::Authority;

const AUTHORITY: &[u8] = b":authority";
/// Place of `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;
/// No header of ours is longer; also keeps the lengths below from overflowing.
const NUMBER_MAX: usize = 1 << 20;

/// What a header block says about the authority.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing in letters.
    Nothing,
    /// A valid one.
    InOrder,
    /// An invalid one: the block with another in its place.
    Replaced(Vec<u8>),
}

/// Looks for an authority spelled out in a header block, which may be cut short.
pub(super) fn sanitize(block: &[u8]) -> Found {
    find(block).unwrap_or(Found::Nothing)
}

fn find(block: &[u8]) -> Option<Found> {
    let mut rest = Reader { block, at: 0 };
    loop {
        let first = *block.get(rest.at)?;
        let (prefix_bits, is_literal) = match first {
            0x80.. => (7, false),
            // With a place in the table afterwards.
            0x40.. => (6, true),
            // A new size of the table.
            0x20.. => (5, false),
            // Without one, and never with one.
            _ => (4, true),
        };
        let index = rest.number(prefix_bits)?;
        if !is_literal {
            continue;
        }
        let is_authority = if index == 0 {
            rest.text()?.decode().as_deref() == Some(AUTHORITY)
        } else {
            index == AUTHORITY_INDEX
        };
        let from = rest.at;
        let value = rest.text()?;
        if is_authority {
            // What cannot be decoded is the library's to refuse, and nothing of no length is an authority.
            let value = value.decode().filter(|value| !value.is_empty())?;
            if Authority::try_from(value.as_slice()).is_ok() {
                return Some(Found::InOrder);
            }
            let mut replaced = block[..from].to_vec();
            put_text(&mut replaced, &harmless(&value));
            replaced.extend_from_slice(&block[rest.at..]);
            return Some(Found::Replaced(replaced));
        }
    }
}

/// A host name of the same length that any reader accepts.
fn harmless(value: &[u8]) -> Vec<u8> {
    let keep = |byte: &u8| {
        if byte.is_ascii_alphanumeric() || *byte == b'.' {
            *byte
        } else {
            b'-'
        }
    };
    value.iter().map(keep).collect()
}

/// Appends a text in plain letters.
fn put_text(block: &mut Vec<u8>, text: &[u8]) {
    const PREFIX_MAX: usize = 0x7f;
    let byte = |number: usize| u8::try_from(number).expect("below 128");
    let Some(mut more) = text.len().checked_sub(PREFIX_MAX) else {
        block.push(byte(text.len()));
        block.extend_from_slice(text);
        return;
    };
    block.push(byte(PREFIX_MAX));
    while more >= 0x80 {
        block.push(0x80 | byte(more % 0x80));
        more /= 0x80;
    }
    block.push(byte(more));
    block.extend_from_slice(text);
}

struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

/// A text as it is in the block.
struct Text<'a> {
    bytes: &'a [u8],
    is_huffman: bool,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.block.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// A number that begins in the low bits of the next byte.
    fn number(&mut self, prefix_bits: u32) -> Option<usize> {
        let max = (1_usize << prefix_bits) - 1;
        let mut number = usize::from(self.byte()?) & max;
        if number < max {
            return Some(number);
        }
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if number > NUMBER_MAX || shift > 21 {
                return None;
            }
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
    }

    fn text(&mut self) -> Option<Text<'a>> {
        let is_huffman = *self.block.get(self.at)? & 0x80 != 0;
        let len = self.number(7)?;
        let bytes = self.block.get(self.at..self.at + len)?;
        self.at += len;
        Some(Text { bytes, is_huffman })
    }
}

impl Text<'_> {
    fn decode(&self) -> Option<Vec<u8>> {
        if self.is_huffman {
            huffman(self.bytes)
        } else {
            Some(self.bytes.to_vec())
        }
    }
}

/// Huffman codes by length: the first code, and the characters that have it and the following ones. Codes of one length
/// follow each other in order of characters, so this is the whole of RFC 7541's appendix B for ASCII that prints; the
/// zero byte is there because it has the first place among codes of 13 bits.
const CODES: [(u32, u32, &[u8]); 10] = [
    (5, 0x0, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
    (10, 0x3f8, b"!\"()?"),
    (11, 0x7fa, b"'+|"),
    (12, 0xffa, b"#>"),
    (13, 0x1ff8, b"\0$@[]~"),
    (14, 0x3ffc, b"^}"),
    (15, 0x7ffc, b"<`{"),
];

/// Decodes a text of printing ASCII; anything else gives none.
fn huffman(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut code, mut len) = (0_u32, 0_u32);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |place| u32::from(byte >> place) & 1))
    {
        code = code << 1 | bit;
        len += 1;
        if let Some(character) = character(len, code) {
            text.push(character);
            (code, len) = (0, 0);
        } else if len > 15 {
            return None;
        }
    }
    // The rest of the last byte is filled with ones.
    (len < 8 && code == (1 << len) - 1).then_some(text)
}

fn character(len: u32, code: u32) -> Option<u8> {
    let (_, first, characters) = CODES.iter().find(|(bits, ..)| *bits == len)?;
    let place = usize::try_from(code.checked_sub(*first)?).ok()?;
    characters.get(place).copied()
}
