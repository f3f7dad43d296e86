//! Decides what becomes of an occurrence: a new Event, one more of a known Event, or nothing. Pure but for its memory,
//! which is bounded. The numbers are those of upstream's clients, so that people see what they are used to.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{EventKind, Occurrence};

/// So many different texts of one reason on one object within the window are told apart; then they are one Event.
const SIMILAR_LIMIT: usize = 10;
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);
/// Events about one object: a burst, then one in five minutes.
const SPAM_BURST: f64 = 25.0;
const SPAM_REFILL: Duration = Duration::from_secs(300);
/// Entries per map; when full, the older half is forgotten.
const MEMORY: usize = 4_096;
/// How long the server keeps an Event: a repeat after that is a new one.
const KEPT: Duration = Duration::from_secs(3_600);

/// What becomes of an occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Too much about this object.
    Spam,
    /// A new Event.
    Create { name: String, message: String },
    /// The Event of this name once more.
    Repeat {
        name: String,
        message: String,
        first: Timestamp,
        count: i32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct About {
    namespace: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    field_path: Option<String>,
}

impl About {
    fn of(occurrence: &Occurrence) -> Self {
        let regarding = &occurrence.regarding;
        Self {
            namespace: regarding.namespace.clone(),
            kind: regarding.kind.clone(),
            name: regarding.name.clone(),
            uid: regarding.uid.clone(),
            field_path: regarding.field_path.clone(),
        }
    }
}

type Similar = (About, EventKind, String);
type Same = (About, EventKind, String, String);

struct Texts {
    seen: HashSet<String>,
    last: Instant,
}

struct Known {
    name: String,
    first: Timestamp,
    count: i32,
    last: Instant,
}

struct Bucket {
    tokens: f64,
    last: Instant,
}

/// The memory of one writer.
#[derive(Default)]
pub(super) struct Correlator {
    similar: HashMap<Similar, Texts>,
    known: HashMap<Same, Known>,
    buckets: HashMap<About, Bucket>,
}

impl Correlator {
    pub(super) fn decide(
        &mut self,
        occurrence: &Occurrence,
        wall: Timestamp,
        now: Instant,
    ) -> Decision {
        let about = About::of(occurrence);
        if !self.has_token(&about, now) {
            return Decision::Spam;
        }
        let message = self.message(occurrence, &about, now);
        let same = (
            about,
            occurrence.kind,
            occurrence.reason.clone(),
            text_key(&message),
        );
        make_room(&mut self.known, |known| known.last);
        if let Some(known) = self.known.get_mut(&same)
            && now.saturating_duration_since(known.last) < KEPT
        {
            known.count = known.count.saturating_add(1);
            known.last = now;
            let (name, first, count) = (known.name.clone(), known.first, known.count);
            return Decision::Repeat {
                name,
                message,
                first,
                count,
            };
        }
        let object = occurrence.regarding.name.as_deref().unwrap_or("unknown");
        let name = format!("{object}.{:x}", wall.as_nanosecond());
        let known = Known {
            name: name.clone(),
            first: wall,
            count: 1,
            last: now,
        };
        self.known.insert(same, known);
        Decision::Create { name, message }
    }

    /// The Event was not stored: the next like it is a new one.
    pub(super) fn forget(&mut self, occurrence: &Occurrence) {
        let same = (
            About::of(occurrence),
            occurrence.kind,
            occurrence.reason.clone(),
            occurrence.message.clone(),
        );
        self.known.remove(&same);
    }

    /// The text as told, or the common one if there were too many different ones.
    fn message(&mut self, occurrence: &Occurrence, about: &About, now: Instant) -> String {
        make_room(&mut self.similar, |texts| texts.last);
        let key = (about.clone(), occurrence.kind, occurrence.reason.clone());
        let texts = self.similar.entry(key).or_insert_with(|| Texts {
            seen: HashSet::new(),
            last: now,
        });
        if now.saturating_duration_since(texts.last) > SIMILAR_WINDOW {
            texts.seen.clear();
        }
        texts.last = now;
        if texts.seen.len() < SIMILAR_LIMIT {
            texts.seen.insert(occurrence.message.clone());
        }
        if texts.seen.contains(&occurrence.message) {
            return occurrence.message.clone();
        }
        format!("{COMBINED}{}", occurrence.message)
    }

    fn has_token(&mut self, about: &About, now: Instant) -> bool {
        make_room(&mut self.buckets, |bucket| bucket.last);
        let bucket = self.buckets.entry(about.clone()).or_insert(Bucket {
            tokens: SPAM_BURST,
            last: now,
        });
        let refill =
            now.saturating_duration_since(bucket.last).as_secs_f64() / SPAM_REFILL.as_secs_f64();
        bucket.tokens = (bucket.tokens + refill).min(SPAM_BURST);
        bucket.last = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

const COMBINED: &str = "(combined from similar events): ";

/// All combined texts are one Event, whose text is the newest.
fn text_key(message: &str) -> String {
    let key = if message.starts_with(COMBINED) {
        COMBINED
    } else {
        message
    };
    key.to_owned()
}

/// Forgets the older half of a full map.
fn make_room<K: Clone + Eq + Hash, V>(map: &mut HashMap<K, V>, last: impl Fn(&V) -> Instant) {
    if map.len() < MEMORY {
        return;
    }
    let mut times: Vec<Instant> = map.values().map(&last).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    map.retain(|_, value| last(value) > median);
}
