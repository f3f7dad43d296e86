//! Every decoder that reads bytes from the network or the disk, fed with valid bytes that were changed.
//!
//! The changes know structure: lengths are set to extremes, pieces move and repeat, and where a checksum would hide the
//! decoder behind it, it is made right again. Not guided by coverage: that needs a nightly compiler (cargo-fuzz) or tools
//! outside of cargo, and bolero without them draws random bytes as this does, with a dependency more. Invariant: no input
//! panics, reserves memory out of proportion, or takes long; the message of a failure has what makes it again.
//!
//! `make test` runs a bounded number of cases from a fixed seed; `make fuzz` goes on from ever new seeds.

mod mutate;
mod targets;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Cases of each target in a bounded run.
const CASES: u64 = 2_000;
/// One case may take this long on a busy machine; a decoder that goes in circles takes for ever.
const CASE_TIME: Duration = Duration::from_secs(20);
/// The largest piece of memory asked for at once: windows of zstd and rows have their bounds below this.
const ALLOCATION_MAX: usize = 64 << 20;

/// A number of the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `decode` on changed copies of `corpus`. `repair` makes a changed copy one that gets past checksums, half the time.
fn run(name: &str, corpus: &[Vec<u8>], repair: impl Fn(&mut Vec<u8>), decode: impl Fn(&[u8])) {
    let first = number("CORTEN_FUZZ_SEED").unwrap_or(1);
    let cases = number("CORTEN_FUZZ_CASES").unwrap_or(CASES);
    let until =
        number("CORTEN_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    for valid in corpus {
        decode(valid);
    }
    let mut seed = first;
    loop {
        let more = match until {
            Some(until) => Instant::now() < until,
            None => seed < first + cases,
        };
        if !more {
            return;
        }
        let mut rng = StdRng::seed_from_u64(seed);
        let mut input = mutate::mutate(&mut rng, corpus);
        if seed.is_multiple_of(2) {
            repair(&mut input);
        }
        let began = Instant::now();
        let (outcome, largest) =
            watch::largest(|| catch_unwind(AssertUnwindSafe(|| decode(&input))));
        let say = |what: &str| {
            let start = hex::encode(&input[..input.len().min(512)]);
            panic!(
                "{name} with CORTEN_FUZZ_SEED={seed}: {what}; input of {} bytes: {start}",
                input.len()
            )
        };
        if outcome.is_err() {
            say("a panic");
        }
        if began.elapsed() > CASE_TIME {
            say("it takes too long");
        }
        if largest > ALLOCATION_MAX {
            say(&format!("{largest} bytes of memory at once"));
        }
        seed += 1;
    }
}
