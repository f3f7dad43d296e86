//! Names that the server makes up for `generateName`.
//!
//! Invariant: a generated name is the prefix, cut to leave room, and five letters or digits that form no words.

use rand::Rng;

/// No vowels and no look-alikes.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// Names of pods become host names, which hold 63 characters.
const NAME_MAX: usize = 63;

/// A name with this prefix; unique with good luck, the store decides.
pub(super) fn generate(prefix: &str) -> String {
    let mut end = prefix.len().min(NAME_MAX - SUFFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    let mut random = rand::rng();
    for _ in 0..SUFFIX {
        name.push(char::from(ALPHABET[random.random_range(0..ALPHABET.len())]));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_long_prefixes_and_keeps_short_ones() {
        assert_eq!(generate("web-").len(), 9);
        assert!(generate("web-").starts_with("web-"));
        assert_eq!(generate(&"a".repeat(80)).len(), 63);
        assert_eq!(generate(&"é".repeat(80)).len(), 63);
    }
}
