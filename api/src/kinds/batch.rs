//! The kinds of the batch group: work that ends, and work that begins again by the clock.

pub mod cron_job;
pub mod indexes;
pub mod job;
