//! Very many watchers of one member, without a network: what they take, and what an event costs beside them.
//!
//! The hub alone: streams and their connections cost what they cost anywhere.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use corten_proto::etcd::mvccpb::{Event, KeyValue};
use corten_store_core::hub::{Filters, Hub, Request};
use corten_store_core::{Revision, RevisionEvents, Span};

use super::report::{Outcome, count};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Watchers in all: each of a namespace's prefix or, every tenth, of a single key.
    #[arg(long, default_value_t = 1_000_000)]
    count: u32,
    /// Watchers on one stream.
    #[arg(long, default_value_t = 100)]
    per_stream: u32,
    /// Namespaces; so many watchers share one prefix.
    #[arg(long, default_value_t = 100_000)]
    prefixes: u32,
    /// Events published one by one.
    #[arg(long, default_value_t = 10_000)]
    events: u32,
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
pub(crate) fn run(args: &Args) -> Result<()> {
    let before = resident_bytes()?;
    let mut hub = Hub::new(Revision::FIRST, Revision::ZERO);
    let began = Instant::now();
    let mut stream = hub.subscribe();
    for number in 0..args.count {
        if number % args.per_stream.max(1) == 0 {
            stream = hub.subscribe();
        }
        let prefix = prefix(number % args.prefixes.max(1));
        let span = if number % 10 == 0 {
            Span::Key(key(&prefix, number))
        } else {
            let mut end = prefix.clone().into_bytes();
            end.push(0xff);
            Span::Range {
                start: prefix.into(),
                end: Some(end.into()),
            }
        };
        let request = Request {
            span,
            start: Revision::ZERO,
            filters: Filters::default(),
            prev_kv: false,
            progress_notify: true,
            fragment: false,
        };
        hub.watch(stream, 0, request)?;
    }
    let added = began.elapsed();
    let each = (resident_bytes()? - before) / f64::from(args.count.max(1));
    let mut told = 0;
    let mut latencies = Vec::new();
    for number in 0..args.events {
        let revision = hub.revision().next();
        let at = number.wrapping_mul(2_654_435_761) % args.prefixes.max(1);
        let event = event(key(&prefix(at), at), revision);
        let began = Instant::now();
        let woken = hub.publish(&[RevisionEvents::new(revision, vec![event])]);
        for stream in woken {
            told += hub.poll(stream, usize::MAX).0.len();
        }
        latencies.push(began.elapsed());
    }
    let total: Duration = latencies.iter().sum();
    let outcome = Outcome::new(latencies, 0, total);
    println!(
        "{} watchers: added in {:.2} s, {each:.0} B each; {:.0} events a second, {:.1} watchers told of each, p50 {:.1} us, p99 {:.1} us, longest {:.1} us",
        args.count,
        added.as_secs_f64(),
        outcome.rate(),
        count(told) / f64::from(args.events.max(1)),
        outcome.millis(500) * 1e3,
        outcome.millis(990) * 1e3,
        outcome.millis(1000) * 1e3,
    );
    Ok(())
}

fn prefix(number: u32) -> String {
    format!("/registry/pods/namespace-{number:06}/")
}

fn key(prefix: &str, number: u32) -> Bytes {
    format!("{prefix}pod-{number:08}").into()
}

fn event(key: Bytes, revision: Revision) -> Event {
    let kv = KeyValue {
        key,
        value: Bytes::from_static(&[7; 1024]),
        mod_revision: revision.get(),
        ..Default::default()
    };
    Event {
        kv: Some(kv),
        ..Default::default()
    }
}

fn resident_bytes() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.context("no VmRSS")?.parse()?;
    Ok(kib * 1024.0)
}
