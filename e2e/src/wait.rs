//! Waiting for a predicate with a deadline; never for "some time".

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often is asked again.
const POLL: Duration = Duration::from_millis(200);

/// Asks until `ask` gives a value, or fails with the last reason it gave.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<T, String>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(value) => return Ok(value),
            Err(reason) if begin.elapsed() > limit => {
                bail!(
                    "{what}: not within {} s; last seen: {reason}",
                    limit.as_secs()
                )
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}
