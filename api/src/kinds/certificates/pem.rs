//! PEM, as Go reads it: text before, between and after blocks is skipped, and so are blocks that are broken.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One block.
pub(super) struct Block<'a> {
    /// What it says it is, such as `CERTIFICATE`.
    pub(super) label: &'a str,
    /// Whether lines like `Proc-Type: x` stood before the data.
    pub(super) has_headers: bool,
    /// The data.
    pub(super) bytes: Vec<u8>,
}

/// The blocks of a text, in order.
pub(super) fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut lines = text.lines();
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?.trim_end();
            let label = line
                .strip_prefix(BEGIN)
                .and_then(|rest| rest.strip_suffix(DASHES));
            let Some(label) = label else {
                continue;
            };
            // A broken block is passed over from its first line only: a whole one may begin inside.
            let mut ahead = lines.clone();
            if let Some(block) = read_block(label, &mut ahead) {
                lines = ahead;
                return Some(block);
            }
        }
    })
}

fn read_block<'a>(label: &'a str, lines: &mut std::str::Lines<'a>) -> Option<Block<'a>> {
    let mut has_headers = false;
    let mut data = String::new();
    for line in lines {
        let line = line.trim();
        if let Some(end) = line.strip_prefix(END) {
            let bytes = STANDARD.decode(data).ok()?;
            let closes = end.strip_suffix(DASHES) == Some(label);
            return closes.then_some(Block {
                label,
                has_headers,
                bytes,
            });
        }
        if data.is_empty() && line.contains(':') {
            has_headers = true;
        } else {
            data.extend(line.chars().filter(|c| !c.is_whitespace()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_among_other_text() {
        let text = "hello\r\n-----BEGIN A-----\r\nAQI=\r\n-----END A-----\r\n-----BEGIN B-----\n!\n\
                    -----BEGIN C-----\nProc-Type: x\n\nAw==\n-----END C-----\n-----BEGIN D-----\nAw==";
        let found: Vec<_> = blocks(text)
            .map(|b| (b.label, b.has_headers, b.bytes))
            .collect();
        assert_eq!(found, [("A", false, vec![1, 2]), ("C", true, vec![3])]);
        assert!(blocks("").next().is_none());
    }
}
