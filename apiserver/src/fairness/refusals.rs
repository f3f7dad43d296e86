//! After how long a refused client should come again: longer, the more are refused.

use std::collections::VecDeque;
use std::time::Duration;

const SECONDS_MAX: u32 = 32;
/// Refusals in each second of the span that call for a longer one.
const TOO_MANY: u64 = 3;

/// The refused requests of a level.
#[derive(Debug)]
pub(super) struct Refusals {
    /// Seconds, and how many were refused in each; never more entries than `SECONDS_MAX` and one.
    history: VecDeque<(u64, u64)>,
    retry_after: u32,
    raised: Option<u64>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            history: VecDeque::new(),
            retry_after: 1,
            raised: None,
        }
    }
}

impl Refusals {
    /// Counts a refusal; tells after how many seconds to come again.
    pub(super) fn note(&mut self, now: Duration) -> u32 {
        let second = now.as_secs();
        match self.history.back_mut() {
            Some((last, count)) if *last >= second => *count += 1,
            _ => {
                // Once in a second, by what has been before it.
                self.adjust(second);
                self.history.push_back((second, 1));
            }
        }
        self.retry_after
    }

    fn adjust(&mut self, second: u64) {
        let age = |then: u64| second.saturating_sub(then);
        self.history
            .retain(|(then, _)| age(*then) <= u64::from(SECONDS_MAX));
        let span = u64::from(self.retry_after);
        let recent = self.history.iter().filter(|(then, _)| age(*then) <= span);
        let refused: u64 = recent.map(|(_, count)| count).sum();
        let rested = self.raised.is_none_or(|raised| age(raised) >= span);
        if rested && refused >= TOO_MANY * span {
            self.retry_after = (self.retry_after * 2).min(SECONDS_MAX);
            self.raised = Some(second);
        } else if refused < span && self.retry_after > 1 {
            self.retry_after -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_under_load_and_comes_down_one_by_one() {
        let mut refusals = Refusals::default();
        let mut at = |second: u64, times: u32| {
            let notes = (0..times).map(|_| refusals.note(Duration::from_secs(second)));
            notes.last().expect("at least one")
        };
        assert_eq!(at(100, 2), 1);
        assert_eq!(at(101, 5), 1, "two in the second before are few");
        assert_eq!(at(102, 9), 2, "five are many");
        assert_eq!(at(103, 9), 2, "not twice within the span");
        assert_eq!(at(104, 9), 4);
        for second in 105..150 {
            at(second, 200);
        }
        assert_eq!(at(150, 1), 32, "there is an end");
        assert_eq!(at(300, 1), 31);
        assert_eq!(at(400, 1), 30);
    }
}
