//! The managers of an object, as `metadata.managedFields` lists them.
//!
//! Invariant: each manager is listed once per way of writing, and none is listed that owns nothing.

use serde_json::{Map, Value, json};

use super::set::Set;

/// Managers by update beyond this number are folded into one: an object must not grow with every new program's name.
const UPDATERS_MAX: usize = 10;
/// Whom the oldest are folded into.
const ANCIENT: &str = "ancient-changes";

/// How a manager writes. In this order entries are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// In any other way.
    Update,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who writes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The name that the client gave.
    pub manager: String,
    /// The way of writing.
    pub operation: Operation,
    /// The version in which the fields are named.
    pub api_version: String,
    /// The subresource written to, or empty.
    pub subresource: String,
}

impl Writer {
    /// Whether both write as one: appliers are the same in every version.
    fn is(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As messages name it.
    pub(super) fn described(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) writer: Writer,
    pub(super) set: Set,
    /// When the set last changed, as text of RFC 3339; it sorts by time.
    time: String,
}

/// All managers of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Managers {
    entries: Vec<Entry>,
}

impl Managers {
    /// What an object says; nothing when it says nothing, or nothing that can be read.
    pub fn of(object: &Value) -> Self {
        Self::read(&object["metadata"]["managedFields"]).unwrap_or_default()
    }

    /// Reads the list of a stored object or of a client's.
    pub fn read(list: &Value) -> Option<Self> {
        let entries = list.as_array()?.iter().map(read_entry);
        Some(Self {
            entries: entries.collect::<Option<_>>()?,
        })
    }

    /// What a client's write may say of managers itself: a list stands for the present one, an empty entry forgets everybody,
    /// and whoever says nothing leaves them as they are.
    pub fn given(given: Option<&Value>, live: &Value) -> Self {
        let list = given.and_then(Value::as_array);
        if let Some([Value::Object(only)]) = list.map(Vec::as_slice)
            && only.is_empty()
        {
            return Self::default();
        }
        match given.and_then(Self::read) {
            Some(managers) if !managers.entries.is_empty() => managers,
            _ => Self::of(live),
        }
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn set_of(&self, writer: &Writer) -> Option<&Set> {
        let entry = self.entries.iter().find(|entry| entry.writer.is(writer))?;
        Some(&entry.set)
    }

    /// All but one.
    pub(super) fn others(&self, writer: &Writer) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(move |entry| !entry.writer.is(writer))
    }

    /// Everything that anybody owns.
    pub(super) fn all(&self) -> Set {
        self.entries
            .iter()
            .fold(Set::default(), |all, entry| all.union(&entry.set))
    }

    /// These fields are no longer anybody's but one's.
    pub(super) fn take_from_others(&mut self, but: Option<&Writer>, gone: &Set) {
        if gone.is_empty() {
            return;
        }
        for entry in &mut self.entries {
            if but.is_none_or(|writer| !entry.writer.is(writer)) {
                entry.set = entry.set.difference(gone);
            }
        }
        self.entries.retain(|entry| {
            !entry.set.is_empty() || but.is_some_and(|writer| entry.writer.is(writer))
        });
    }

    /// Adds fields to what a manager owns.
    pub(super) fn add(&mut self, writer: &Writer, set: &Set, now: &str) {
        let known = self
            .entries
            .iter_mut()
            .find(|entry| entry.writer.is(writer));
        if let Some(entry) = known {
            entry.set = entry.set.union(set);
            now.clone_into(&mut entry.time);
            return;
        }
        self.push(writer, set.clone(), now);
    }

    /// Replaces what a manager owns.
    pub(super) fn replace(&mut self, writer: &Writer, set: Set, now: &str) {
        self.entries.retain(|entry| !entry.writer.is(writer));
        if !set.is_empty() {
            self.push(writer, set, now);
        }
    }

    fn push(&mut self, writer: &Writer, set: Set, now: &str) {
        self.entries.push(Entry {
            writer: writer.clone(),
            set,
            time: now.to_owned(),
        });
    }

    /// Folds the oldest updaters into one when there are too many.
    pub(super) fn cap(&mut self) {
        let updaters = |entry: &&Entry| entry.writer.operation == Operation::Update;
        while self.entries.iter().filter(updaters).count() > UPDATERS_MAX {
            let mut ages: Vec<(String, usize)> = self
                .entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| entry.writer.operation == Operation::Update)
                .map(|(at, entry)| (entry.time.clone(), at))
                .collect();
            ages.sort();
            let oldest = self.entries.remove(ages[0].1);
            let second = ages[1].1 - usize::from(ages[1].1 > ages[0].1);
            let second = self.entries.remove(second);
            let writer = Writer {
                manager: ANCIENT.to_owned(),
                subresource: String::new(),
                ..second.writer
            };
            self.push(&writer, oldest.set.union(&second.set), &second.time);
        }
    }

    /// Whether both know the same managers with the same fields, whenever they wrote.
    pub fn owns_the_same(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len()
            && self
                .entries
                .iter()
                .all(|entry| other.set_of(&entry.writer) == Some(&entry.set))
    }

    /// As it stands in objects; null for nobody.
    pub fn to_json(&self) -> Value {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| {
            let rank = |entry: &Entry| (entry.writer.operation, entry.time.clone());
            let name = |entry: &Entry| {
                let writer = &entry.writer;
                (
                    writer.manager.clone(),
                    writer.api_version.clone(),
                    writer.subresource.clone(),
                )
            };
            (rank(a), name(a)).cmp(&(rank(b), name(b)))
        });
        let list: Vec<Value> = entries.into_iter().map(entry_json).collect();
        if list.is_empty() {
            Value::Null
        } else {
            Value::Array(list)
        }
    }
}

fn read_entry(entry: &Value) -> Option<Entry> {
    let text = |name: &str| entry[name].as_str().unwrap_or("").to_owned();
    let operation = match entry["operation"].as_str()? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    Some(Entry {
        writer: Writer {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
        },
        set: Set::from_json(&entry["fieldsV1"])?,
        time: text("time"),
    })
}

fn entry_json(entry: &Entry) -> Value {
    let writer = &entry.writer;
    let mut out = Map::new();
    out.insert("manager".to_owned(), json!(writer.manager));
    out.insert("operation".to_owned(), json!(writer.operation.text()));
    out.insert("apiVersion".to_owned(), json!(writer.api_version));
    if !entry.time.is_empty() {
        out.insert("time".to_owned(), json!(entry.time));
    }
    out.insert("fieldsType".to_owned(), json!("FieldsV1"));
    out.insert("fieldsV1".to_owned(), entry.set.to_json());
    if !writer.subresource.is_empty() {
        out.insert("subresource".to_owned(), json!(writer.subresource));
    }
    Value::Object(out)
}
