//! What a PriorityLevelConfiguration says, parsed.

use corten_api::kinds::flowcontrol::{ENTROPY_BITS_MAX, entropy_bits, mandatory};
use serde_json::Value;

use super::classify::Id;

/// One level as its object describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which object it is.
    pub id: Id,
    /// Its part of the server, beside the shares of the others.
    pub shares: u32,
    /// How much of its seats others may borrow, in percent.
    pub lendable_percent: u32,
    /// How much it may borrow, in percent of its own seats; `None`: as much as there is.
    pub borrowing_percent: Option<u32>,
    /// What becomes of requests beyond its seats.
    pub discipline: Discipline,
}

/// What becomes of requests for which there is no seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discipline {
    /// There is always one.
    Exempt,
    /// They are refused.
    Reject,
    /// They wait.
    Queue {
        /// How many queues there are.
        queues: u32,
        /// How many of them one flow may use.
        hand: u32,
        /// How many requests may wait in each.
        length_max: usize,
    },
}

impl Config {
    /// `None` when the object contradicts itself; validation would not have let it in.
    pub(super) fn parse(object: &Value) -> Option<Self> {
        let id = Id::of(object);
        let spec = &object["spec"];
        let (limited, exempt) = (&spec["limited"], &spec["exempt"]);
        let is_exempt = match spec["type"].as_str()? {
            "Exempt" => true,
            "Limited" => false,
            _ => return None,
        };
        if is_exempt != (&*id.name == mandatory::EXEMPT) || is_exempt == limited.is_object() {
            return None;
        }
        let part = if is_exempt { exempt } else { limited };
        let number = |key: &str| part[key].as_u64().and_then(|n| u32::try_from(n).ok());
        Some(Self {
            id,
            shares: number("nominalConcurrencyShares").unwrap_or_default(),
            lendable_percent: number("lendablePercent").unwrap_or_default().min(100),
            borrowing_percent: number("borrowingLimitPercent"),
            discipline: match is_exempt {
                true => Discipline::Exempt,
                false => Discipline::parse(&limited["limitResponse"])?,
            },
        })
    }
}

impl Discipline {
    fn parse(response: &Value) -> Option<Self> {
        let queuing = &response["queuing"];
        match response["type"].as_str()? {
            "Reject" if queuing.is_null() => Some(Self::Reject),
            "Queue" => {
                let number = |key: &str| u32::try_from(queuing[key].as_u64()?).ok();
                let (queues, hand) = (number("queues")?, number("handSize")?);
                let fits = (1..=queues).contains(&hand);
                if !fits || entropy_bits(queues, hand) > ENTROPY_BITS_MAX {
                    return None;
                }
                Some(Self::Queue {
                    queues,
                    hand,
                    length_max: number("queueLengthLimit")? as usize,
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn level(name: &str, spec: &Value) -> Option<Config> {
        Config::parse(&json!({"metadata": {"name": name, "uid": "u"}, "spec": spec}))
    }

    #[test]
    fn levels_are_read() {
        let queuing = json!({"queues": 64, "handSize": 6, "queueLengthLimit": 50});
        let limited = json!({
            "nominalConcurrencyShares": 30, "lendablePercent": 33,
            "limitResponse": {"type": "Queue", "queuing": queuing},
        });
        let config = level("a", &json!({"type": "Limited", "limited": limited})).expect("good");
        assert_eq!((config.shares, config.lendable_percent), (30, 33));
        assert_eq!(config.borrowing_percent, None);
        let expected = Discipline::Queue {
            queues: 64,
            hand: 6,
            length_max: 50,
        };
        assert_eq!(config.discipline, expected);
        for object in mandatory::levels() {
            assert!(Config::parse(object).is_some(), "{object}");
        }
    }

    #[test]
    fn contradictions_count_as_absent() {
        let reject = json!({"limitResponse": {"type": "Reject"}});
        let bad = [
            ("a", json!({"type": "Exempt"})),
            ("exempt", json!({"type": "Limited", "limited": reject})),
            ("exempt", json!({"type": "Exempt", "limited": reject})),
            ("a", json!({"type": "Limited"})),
            (
                "a",
                json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}}}),
            ),
            ("a", json!({})),
        ];
        for (name, spec) in bad {
            assert_eq!(level(name, &spec), None, "{name} {spec}");
        }
        assert!(level("a", &json!({"type": "Limited", "limited": reject})).is_some());
    }
}
