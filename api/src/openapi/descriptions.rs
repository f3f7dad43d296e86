//! Descriptions of types and fields, as the build found them. The file's form is described in `build.rs`.
//! Invariant: a build without descriptions answers `None` to everything.

use std::collections::HashMap;

const TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/descriptions.txt"));

/// The descriptions, indexed for one use; not kept, because a document is built once.
pub(super) struct Descriptions {
    texts: Vec<&'static str>,
    types: HashMap<&'static str, Entry>,
}

#[derive(Default)]
struct Entry {
    own: usize,
    fields: HashMap<&'static str, usize>,
}

impl Descriptions {
    pub(super) fn load() -> Self {
        let (index, texts) = TEXT.split_once("\n\n").unwrap_or_default();
        let mut types: HashMap<&'static str, Entry> = HashMap::new();
        let mut current = "";
        for line in index.lines() {
            let Some((name, text)) = line.split_once('\t') else {
                continue;
            };
            let text = text.parse().unwrap_or(usize::MAX);
            match name.strip_prefix('=') {
                Some(name) => {
                    current = name;
                    types.insert(
                        name,
                        Entry {
                            own: text,
                            fields: HashMap::new(),
                        },
                    );
                }
                None => {
                    types.entry(current).or_default().fields.insert(name, text);
                }
            }
        }
        Descriptions {
            texts: texts.lines().collect(),
            types,
        }
    }

    pub(super) fn of_type(&self, definition: &str) -> Option<String> {
        self.text(self.types.get(definition)?.own)
    }

    pub(super) fn of_field(&self, definition: &str, field: &str) -> Option<String> {
        let flat: String = field
            .chars()
            .filter(|c| c.is_ascii_alphanumeric())
            .collect();
        let entry = self.types.get(definition)?;
        self.text(*entry.fields.get(flat.to_ascii_lowercase().as_str())?)
    }

    fn text(&self, index: usize) -> Option<String> {
        let text = self.texts.get(index).filter(|text| !text.is_empty())?;
        Some(text.replace("\\n", "\n"))
    }
}
