//! A storm: many full lists at once, again and again, while objects are created at a steady pace; and memory over time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use corten_base::tasks::{TaskKind, spawn};

use super::client::{Call, Connection, Format};
use super::objects::CREATED;
use super::report::{Outcome, Tally};
use super::requests::create_config_map;
use super::servers::Side;

/// Tasks that create, each with a pause after each: at most 160 a second together.
const WRITERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(50);
const CREATED_BYTES: usize = 1024;
/// Between two looks at memory.
const SAMPLE: Duration = Duration::from_millis(500);
/// Watched after the storm: does memory come back?
const AFTER: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Storm {
    /// Each on a connection of its own.
    pub(crate) readers: usize,
    pub(crate) path: String,
    pub(crate) lasts: Duration,
}

/// What a storm gave.
pub(crate) struct Weather {
    pub(crate) lists: Outcome,
    pub(crate) creates: Outcome,
    /// Processor seconds of the API server and of the store; the quiet time after the storm is not in it.
    pub(crate) cpu: (f64, f64),
    /// Resident MiB of the API server, one every half second, from before the storm to after it.
    pub(crate) resident: Vec<f64>,
}

pub(crate) async fn run(side: &Side, storm: &Storm) -> Result<Weather> {
    let readers = side.bench.client(storm.readers).await?;
    let used = || anyhow::Ok((side.api.cpu_seconds()?, side.store.cpu_seconds()?));
    let before = used()?;
    let began = Instant::now();
    let until = began + storm.lasts;
    let (mut lists, mut creates) = (Vec::new(), Vec::new());
    for number in 0..storm.readers {
        let work = read(readers.at(number), storm.path.as_str().into(), until);
        lists.push(spawn("reader", TaskKind::Background, work));
    }
    for number in 0..WRITERS {
        let work = write(side.client.at(number), until);
        creates.push(spawn("writer", TaskKind::Background, work));
    }
    let mut resident = Vec::new();
    let mut timer = tokio::time::interval(SAMPLE);
    while lists.iter().chain(&creates).any(|task| !task.is_finished()) {
        timer.tick().await;
        resident.push(side.api.resident_mib()?);
    }
    let took = began.elapsed();
    let after = used()?;
    let calm = Instant::now() + AFTER;
    while Instant::now() < calm {
        timer.tick().await;
        resident.push(side.api.resident_mib()?);
    }
    Ok(Weather {
        lists: gather(lists).await?.done(took),
        creates: gather(creates).await?.done(took),
        cpu: (after.0 - before.0, after.1 - before.1),
        resident,
    })
}

async fn gather(tasks: Vec<tokio::task::JoinHandle<Tally>>) -> Result<Tally> {
    let mut all = Tally::default();
    for task in tasks {
        all.add(task.await?);
    }
    Ok(all)
}

async fn read(connection: Connection, path: Arc<str>, until: Instant) -> Tally {
    let mut tally = Tally::default();
    while Instant::now() < until {
        let began = Instant::now();
        let call = Call::get(path.to_string(), Format::Json);
        let result = connection.drain(call).await;
        tally.note(began.elapsed(), &result);
    }
    tally
}

async fn write(connection: Connection, until: Instant) -> Tally {
    let mut tally = Tally::default();
    while Instant::now() < until {
        let began = Instant::now();
        let result = create_config_map(&connection, CREATED, CREATED_BYTES).await;
        tally.note(began.elapsed(), &result);
        tokio::time::sleep(PAUSE).await;
    }
    tally
}
