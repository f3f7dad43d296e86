//! The task that keeps a cache current: watch, resume behind the last revision after a cut, start over after a 410.
//! Invariant: an initial state is applied as differences, and what it does not name is removed only when it is complete.

use std::collections::HashSet;
use std::time::Duration;

use corten_base::backoff::Backoff;
use corten_base::shutdown::Shutdown;

use super::Cache;
use crate::client::{Client, ListOptions};
use crate::error::{Error, Result};
use crate::object::{Cached, ObjectName, Revision};
use crate::outage::Outage;
use crate::raw::decode;
use crate::watch::{RawEvent, WatchStream};

/// First and longest wait before a watch is opened again.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(15);

pub(super) struct Reflector<T: Cached> {
    client: Client,
    select: ListOptions,
    cache: Cache<T>,
    shutdown: Shutdown,
    /// Where to go on; `None` asks for the state first.
    resume: Option<Revision>,
    /// Names of the initial state so far, while one is coming in.
    named: Option<HashSet<ObjectName>>,
}

impl<T: Cached> Reflector<T> {
    pub(super) fn new(
        client: Client,
        select: ListOptions,
        cache: Cache<T>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            client,
            select,
            cache,
            shutdown,
            resume: None,
            named: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let shutdown = self.shutdown.clone();
        let mut outage = Outage::default();
        loop {
            let before = self.cache.revision();
            let ended = tokio::select! {
                biased;
                // Cancel-safe as a whole: what was applied is applied, and nothing reads on.
                () = shutdown.wait() => return,
                ended = self.follow() => ended,
            };
            if self.cache.revision() > before {
                backoff.reset();
                outage.over();
            }
            match ended {
                Ok(()) => tracing::debug!(target = %self.cache.target(), "watch ended, resuming"),
                Err(Error::Gone(_)) => {
                    tracing::info!(target = %self.cache.target(), "revision is gone, listing again");
                    self.resume = None;
                }
                Err(error) if !outage.is_news(&error) => {
                    tracing::debug!(target = %self.cache.target(), %error, "watch failed, resuming");
                }
                Err(error) => {
                    tracing::warn!(target = %self.cache.target(), %error, "watch failed, resuming");
                }
            }
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
    }

    /// One watch, to its end.
    async fn follow(&mut self) -> Result<()> {
        let target = self.cache.target().clone();
        let mut stream: WatchStream = self
            .client
            .watch(&target, &self.select, self.resume)
            .await?;
        self.named = self.resume.is_none().then(HashSet::new);
        while let Some(event) = stream.next().await? {
            self.apply(event).await;
        }
        Ok(())
    }

    async fn apply(&mut self, event: RawEvent) {
        match event {
            RawEvent::Added(json) | RawEvent::Modified(json) => self.put(&json).await,
            RawEvent::Deleted(json, revision) => self.remove(&json, revision).await,
            RawEvent::Bookmark {
                revision,
                initial_end,
            } => {
                if initial_end {
                    self.complete_initial().await;
                }
                self.cache.shared.store.write().advance(revision);
                self.cache.advance(initial_end);
                if self.named.is_none() {
                    self.resume = Some(self.cache.revision());
                }
            }
        }
    }

    async fn put(&mut self, json: &[u8]) {
        let Some(object) = self.read(json) else {
            return;
        };
        if let Some(named) = &mut self.named {
            named.insert(ObjectName::of(&object));
        }
        let delivery = self.cache.shared.store.write().put(object);
        self.settle(delivery).await;
    }

    async fn remove(&mut self, json: &[u8], revision: Revision) {
        let Some(object) = self.read(json) else {
            return;
        };
        let name = ObjectName::of(&object);
        let delivery = {
            let mut store = self.cache.shared.store.write();
            store.advance(revision);
            store.remove(&name.namespace, &name.name, Some(object))
        };
        self.settle(delivery).await;
    }

    /// Tells waiters and subscribers. During an initial state the revision is not published: objects come in order of
    /// name, so the newest among them says nothing about the others.
    async fn settle(&mut self, delivery: super::changes::Delivery<T>) {
        if self.named.is_none() {
            self.cache.advance(false);
            self.resume = Some(self.cache.revision());
        }
        delivery.deliver().await;
    }

    async fn complete_initial(&mut self) {
        let Some(named) = self.named.take() else {
            return;
        };
        let gone = self.cache.shared.store.write().retain(&named);
        for delivery in gone {
            delivery.deliver().await;
        }
    }

    /// An object that cannot be read is left out rather than stopping everything that can.
    fn read(&self, json: &[u8]) -> Option<T> {
        let target = self.cache.target();
        match decode::<T>(json, || target.to_string()) {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::error!(%target, %error, "object left out of the cache");
                None
            }
        }
    }
}
