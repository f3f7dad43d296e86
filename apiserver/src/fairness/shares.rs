//! How the seats of the server are divided among the levels, and lent from one to another.
//!
//! Invariant: a limited level never has less than it may not lend, nor more than it may borrow.

use super::demand::Wish;
use super::level::{Config, Discipline};

/// A request may ask for this part of its level's seats.
const WIDTH_MAX: f64 = 0.15;
/// Levels that want nothing get what is left over nevertheless, and this keeps them from dividing by nothing.
const TARGET_MIN: f64 = 0.001;
/// Halvings of the span in which the proportion is looked for; doubles have no more bits.
const HALVINGS: u32 = 64;

/// What the shares of a level come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sharing {
    /// Seats by its shares alone.
    pub(super) nominal: u32,
    min: u32,
    max: u32,
}

/// Within what a level's seats may be, and what it would like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    exempt: bool,
    /// What it may not lend.
    min: f64,
    /// What it should keep: it uses that much, and it is its own.
    low: f64,
    target: f64,
    high: f64,
}

impl Sharing {
    /// `sum` is that of the shares of all levels.
    pub(super) fn new(seats: u32, sum: u64, config: &Config) -> Self {
        let product = u64::from(seats) * u64::from(config.shares);
        let nominal = match sum {
            0 => 0,
            sum => u32::try_from(product.div_ceil(sum)).unwrap_or(u32::MAX),
        };
        let lendable = percent(nominal, config.lendable_percent).min(nominal);
        let borrowing = match config.borrowing_percent {
            Some(part) => percent(nominal, part),
            None => seats,
        };
        Self {
            nominal,
            min: nominal - lendable,
            max: nominal.saturating_add(borrowing),
        }
    }

    pub(super) fn bounds(&self, wish: &Wish, exempt: bool) -> Bounds {
        // An exempt level takes what it wants, so what it wants is missing to the others.
        let own = if exempt { u32::MAX } else { self.nominal };
        let low = f64::from(self.min.max(own.min(wish.highest)));
        Bounds {
            exempt,
            min: f64::from(self.min),
            low,
            target: low.max(wish.usual).max(TARGET_MIN),
            high: f64::from(self.max),
        }
    }

    /// The most seats that one request should ask for.
    pub(super) fn seats_max(&self, discipline: &Discipline) -> u32 {
        let Discipline::Queue { hand, .. } = discipline else {
            return u32::MAX;
        };
        let part = (f64::from(self.nominal) * WIDTH_MAX).ceil() as u32;
        part.min(self.nominal / hand).max(1)
    }
}

fn percent(of: u32, part: u32) -> u32 {
    let rounded = (u64::from(of) * u64::from(part) + 50) / 100;
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

/// The seats of each level, so that they sum up to the total as nearly as bounds allow.
pub(super) fn lend(total: u32, levels: &[Bounds]) -> Vec<u32> {
    let exempt: f64 = levels.iter().filter(|l| l.exempt).map(|l| l.low).sum();
    let limited = || levels.iter().filter(|level| !level.exempt);
    let left = f64::from(total) - exempt;
    let mins: f64 = limited().map(|level| level.min).sum();
    let lows: f64 = limited().map(|level| level.low).sum();
    let seats = |level: &Bounds, allot: &dyn Fn(&Bounds) -> f64| match level.exempt {
        true => level.low.round() as u32,
        false => allot(level).round() as u32,
    };
    let allot: Box<dyn Fn(&Bounds) -> f64> = if left <= mins {
        Box::new(|level| level.min)
    } else if left <= lows {
        let part = (left - mins) / (lows - mins);
        Box::new(move |level| level.min + (level.low - level.min) * part)
    } else {
        let limited: Vec<Bounds> = limited().copied().collect();
        let fair = proportion(left, &limited);
        Box::new(move |level| level.clamped(fair))
    };
    levels.iter().map(|level| seats(level, &*allot)).collect()
}

impl Bounds {
    fn clamped(&self, proportion: f64) -> f64 {
        (self.target * proportion).max(self.low).min(self.high)
    }
}

/// The one proportion of their targets that all levels get, but for their bounds, when so many seats are given out.
fn proportion(seats: f64, levels: &[Bounds]) -> f64 {
    let given = |proportion: f64| -> f64 { levels.iter().map(|l| l.clamped(proportion)).sum() };
    let ratios = levels.iter().map(|level| level.high / level.target);
    let (mut low, mut high) = (0.0, ratios.fold(0.0, f64::max));
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if given(middle) < seats {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(min: u32, low: u32, target: f64, high: u32) -> Bounds {
        Bounds {
            exempt: false,
            min: min.into(),
            low: low.into(),
            target,
            high: high.into(),
        }
    }

    #[test]
    fn seats_follow_shares() {
        let mut config = Config::parse(&corten_api::kinds::flowcontrol::mandatory::levels()[1])
            .expect("catch-all");
        config.lendable_percent = 33;
        let sharing = Sharing::new(600, 245, &config);
        assert_eq!((sharing.nominal, sharing.min, sharing.max), (13, 9, 613));
        config.borrowing_percent = Some(50);
        assert_eq!(Sharing::new(600, 245, &config).max, 20);
        assert_eq!(Sharing::new(600, 0, &config).nominal, 0);
        assert_eq!(sharing.seats_max(&Discipline::Reject), u32::MAX);
        let queue = |hand| Discipline::Queue {
            queues: 64,
            hand,
            length_max: 50,
        };
        assert_eq!(sharing.seats_max(&queue(4)), 2);
        assert_eq!(sharing.seats_max(&queue(20)), 1);
    }

    #[test]
    fn idle_levels_lend_and_busy_ones_borrow() {
        let idle = bounds(50, 50, 50.0, 200);
        let busy = bounds(50, 100, 140.0, 300);
        assert_eq!(lend(200, &[idle, busy]), [53, 147]);
        // A level that may not borrow so much leaves the rest to the others.
        let held = Bounds {
            high: 110.0,
            ..busy
        };
        assert_eq!(lend(200, &[idle, held]), [90, 110]);
        // All want all: each keeps its own.
        let greedy = bounds(50, 100, 100.0, 300);
        assert_eq!(lend(200, &[greedy, greedy]), [100, 100]);
    }

    #[test]
    fn exempt_requests_are_missing_to_the_others() {
        let exempt = Bounds {
            exempt: true,
            ..bounds(0, 60, 60.0, 0)
        };
        let busy = bounds(50, 100, 100.0, 300);
        assert_eq!(lend(200, &[exempt, busy, busy]), [60, 70, 70]);
        let crowd = Bounds {
            low: 150.0,
            ..exempt
        };
        assert_eq!(lend(200, &[crowd, busy, busy]), [150, 50, 50]);
        assert!(lend(0, &[]).is_empty());
    }
}
