//! Query strings as kubelet's clients write them. Pure.

/// Decoded pairs in order; a key may come more than once.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// `1`, `true` and their like; an absent key is false.
    pub(super) fn flag(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| {
            matches!(
                self.get(key),
                Some("1" | "t" | "T" | "true" | "TRUE" | "True")
            )
        })
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, String> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| format!("{key} must be a number and not negative: {text:?}")),
        }
    }
}

/// Percent-decoding; what is not valid UTF-8 afterwards is replaced, not refused.
pub(super) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten();
        match (
            bytes[at],
            escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_keep_their_order_and_characters() {
        let query = Query::parse("command=sh&command=-c&command=echo%20a%26b+%C3%A9&tty=1&bad=%zz");
        assert_eq!(query.all("command"), ["sh", "-c", "echo a&b é"]);
        assert!(query.flag(&["tty"]) && !query.flag(&["input"]));
        assert_eq!(query.get("bad"), Some("%zz"));
        assert!(Query::parse("tailLines=-1").number("tailLines").is_err());
    }
}
