//! Who of several replicas acts: one coordination.k8s.io Lease, renewed by its holder. It never trusts another host's
//! clock: a lease has run out when it was not seen to change for its duration, by our own monotonic time. Invariant:
//! whoever cannot renew stops leading (`renew_deadline`) well before anyone else may begin (`lease_duration`).

use std::time::Duration;

use corten_base::shutdown::Shutdown;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::outage::Outage;

/// How long giving the lease back may take at shutdown.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// Which lease, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderConfig {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// Who we are; unique among the replicas.
    pub identity: String,
    /// How long the others wait after the last renewal they saw.
    pub lease_duration: Duration,
    /// How long the holder goes on without a successful renewal.
    pub renew_deadline: Duration,
    /// How often the holder renews and the others look.
    pub retry_period: Duration,
}

impl LeaderConfig {
    /// The lease `kube-system/<name>` with upstream's times.
    pub fn new(name: &str, identity: &str) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// An identity for this process: the host's name and something random.
    pub fn process_identity() -> String {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}_{:016x}", host.trim(), rand::random::<u64>())
    }
}

/// Whether this process leads; cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<bool>);

impl Leadership {
    /// For a process that has no rivals.
    pub fn always() -> Self {
        Self(watch::channel(true).1)
    }

    /// A leadership that the caller moves: for tests.
    pub fn manual(leading: bool) -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(leading);
        (sender, Self(receiver))
    }

    /// Whether it leads now.
    pub fn is_leading(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns as soon as it leads. Cancel-safe.
    pub async fn wait_leading(&self) {
        if self.0.clone().wait_for(|leading| *leading).await.is_err() {
            // The elector is gone and did not lead: it never will.
            std::future::pending::<()>().await;
        }
    }

    /// Returns as soon as it does not lead. Cancel-safe.
    pub async fn wait_lost(&self) {
        if self.0.clone().wait_for(|leading| !*leading).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes part in the election.
#[derive(Debug)]
pub struct LeaderElector {
    client: Client,
    config: LeaderConfig,
    leading: watch::Sender<bool>,
    observed: Option<Observed>,
}

/// The lease as last seen, and when it was first seen so.
#[derive(Clone, Debug)]
struct Observed {
    lease: Lease,
    since: Instant,
}

impl LeaderElector {
    /// An elector and what it decides. Nothing happens before [`LeaderElector::run`].
    pub fn new(client: Client, config: LeaderConfig) -> (Self, Leadership) {
        let (leading, receiver) = watch::channel(false);
        let client = client.with_timeout(config.renew_deadline);
        (
            Self {
                client,
                config,
                leading,
                observed: None,
            },
            Leadership(receiver),
        )
    }

    /// Campaigns and renews until shutdown, then gives the lease back.
    pub async fn run(mut self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                // Cancel-safe: a write that went out is seen at the next attempt, by whoever makes it.
                renewed = self.campaign() => {
                    tracing::info!(lease = %self.config.name, identity = %self.config.identity, "leading");
                    self.leading.send_replace(true);
                    let lost = self.hold(renewed, &shutdown).await;
                    self.leading.send_replace(false);
                    if !lost {
                        self.release().await;
                        return;
                    }
                    tracing::warn!(lease = %self.config.name, "lost the lease");
                }
            }
        }
    }

    /// Tries until the lease is ours; when the attempt began that got it.
    async fn campaign(&mut self) -> Instant {
        let mut outage = Outage::default();
        loop {
            let begin = Instant::now();
            match self.attempt().await {
                Ok(true) => return begin,
                Ok(false) => outage.over(),
                Err(error) if !outage.is_news(&error) => {
                    tracing::debug!(lease = %self.config.name, %error, "cannot take part in the election");
                }
                Err(error) => {
                    tracing::warn!(lease = %self.config.name, %error, "cannot take part in the election")
                }
            }
            // A spread of a fifth keeps replicas from colliding for ever.
            let spread = rand::random_range(1.0..1.2);
            tokio::time::sleep(self.config.retry_period.mul_f64(spread)).await;
        }
    }

    /// Renews until that fails for too long (true) or shutdown (false).
    async fn hold(&mut self, mut renewed: Instant, shutdown: &Shutdown) -> bool {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return false,
                () = tokio::time::sleep(self.config.retry_period) => {}
            }
            let deadline = renewed + self.config.renew_deadline;
            let begin = Instant::now();
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(true)) => renewed = begin,
                Ok(Ok(false)) => return true,
                Ok(Err(error)) if Instant::now() < deadline => {
                    tracing::warn!(lease = %self.config.name, %error, "cannot renew, trying on");
                }
                Ok(Err(_)) | Err(_) => return true,
            }
        }
    }

    /// One look, and one write if the lease is ours to take or renew; whether it is ours now.
    async fn attempt(&mut self) -> Result<bool> {
        let config = &self.config;
        let Some(lease) = self
            .client
            .get_opt::<Lease>(&config.namespace, &config.name)
            .await?
        else {
            let lease = claim(config, Lease::default(), Timestamp::now());
            let created = self.client.create(&lease).await;
            return self.written(created);
        };
        let changed = self
            .observed
            .as_ref()
            .is_none_or(|seen| seen.lease.spec != lease.spec);
        if changed {
            self.observed = Some(Observed {
                lease: lease.clone(),
                since: Instant::now(),
            });
        }
        let since = self
            .observed
            .as_ref()
            .map_or_else(Instant::now, |seen| seen.since);
        if !is_free(&self.config, &lease, since.elapsed()) {
            return Ok(false);
        }
        let updated = self
            .client
            .update(&claim(&self.config, lease, Timestamp::now()))
            .await;
        self.written(updated)
    }

    /// Another replica that was faster is no failure.
    fn written(&mut self, result: Result<Lease>) -> Result<bool> {
        match result {
            Ok(lease) => {
                self.observed = Some(Observed {
                    lease,
                    since: Instant::now(),
                });
                Ok(true)
            }
            Err(Error::Conflict(_) | Error::AlreadyExists(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Empties the lease, so that another replica need not wait for it to run out.
    async fn release(&mut self) {
        let Some(Observed { mut lease, .. }) = self.observed.take() else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let now = micros(Timestamp::now());
        spec.renew_time = Some(now.clone());
        spec.acquire_time = Some(now);
        match tokio::time::timeout(RELEASE_LIMIT, self.client.update(&lease)).await {
            Ok(Ok(_)) => tracing::info!(lease = %self.config.name, "gave the lease back"),
            Ok(Err(error)) => {
                tracing::info!(lease = %self.config.name, %error, "could not give the lease back")
            }
            Err(_) => tracing::info!(lease = %self.config.name, "no time to give the lease back"),
        }
    }
}

/// Whether we may write the lease: it is ours, or nobody's, or was not seen to change for its duration.
fn is_free(config: &LeaderConfig, lease: &Lease, unchanged: Duration) -> bool {
    let spec = lease.spec.as_ref();
    let holder = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default();
    let duration = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(config.lease_duration, Duration::from_secs);
    holder.is_empty() || holder == config.identity || unchanged >= duration
}

/// The lease as we hold it from `now`.
fn claim(config: &LeaderConfig, mut lease: Lease, now: Timestamp) -> Lease {
    lease.metadata.namespace = Some(config.namespace.clone());
    lease.metadata.name = Some(config.name.clone());
    let before = lease.spec.take().unwrap_or_default();
    let ours = before.holder_identity.as_deref() == Some(&config.identity);
    let exists = lease.metadata.resource_version.is_some();
    let transitions = before.lease_transitions.unwrap_or(0);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(
            i32::try_from(config.lease_duration.as_secs()).unwrap_or(i32::MAX),
        ),
        acquire_time: if ours {
            before.acquire_time
        } else {
            Some(micros(now))
        },
        renew_time: Some(micros(now)),
        lease_transitions: Some(if ours || !exists {
            transitions
        } else {
            transitions + 1
        }),
        ..before
    });
    lease
}

/// Times of a lease have microseconds.
fn micros(time: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time))
}

#[cfg(test)]
mod tests;
