//! Keeps the kernel's table at what the caches say: one owner of the model and of what was applied last. Changes that come
//! close together are applied together; a failed transaction is answered by building the table anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corten_base::backoff::Backoff;
use corten_base::shutdown::Shutdown;
use corten_client::ObjectName;
use corten_client::cache::{Cache, Change, Changes};
use corten_client::object::Cached;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::watch;

use crate::affinity;
use crate::conntrack;
use crate::model::{Model, PortName, SERVICE_NAME_LABEL, service_ports};
use crate::nft;
use crate::ruleset::{Ruleset, Scope, compute, diff, full};

/// Index of slices by their Service, as `namespace/name`.
pub const BY_SERVICE: &str = "service";
/// Changes within this time make one transaction.
const SETTLE: Duration = Duration::from_millis(5);
/// The table is compared with nothing but our own memory; once in a while it is made anew, should someone have flushed it.
const REBUILD: Duration = Duration::from_secs(15 * 60);

/// The key of [`BY_SERVICE`].
pub fn service_of(slice: &EndpointSlice) -> Vec<String> {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    let label = slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SERVICE_NAME_LABEL));
    label
        .map(|service| vec![format!("{namespace}/{service}")])
        .unwrap_or_default()
}

/// The task that owns the table.
pub struct Sync {
    /// Name of the table.
    pub table: String,
    /// This node.
    pub node: String,
    /// What the rules know of the cluster.
    pub scope: Scope,
    /// All Services.
    pub services: Cache<Service>,
    /// All slices, indexed by [`BY_SERVICE`].
    pub slices: Cache<EndpointSlice>,
    /// Told whether the kernel holds what it should.
    pub synced: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    model: Model,
    /// What the kernel holds; None when the table must be built anew.
    applied: Option<Ruleset>,
    /// The model behind what was applied last, which flows in the kernel may still follow. Kept when the table is rebuilt.
    followed: Option<Model>,
    dirty: BTreeSet<ObjectName>,
}

impl Sync {
    /// Runs until `shutdown`. The table stays: traffic goes on without this process.
    pub async fn run(self, shutdown: Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = async { self.services.wait_synced().await; self.slices.wait_synced().await } => {}
        }
        let (mut services, mut slices) = (self.services.subscribe(), self.slices.subscribe());
        let mut state = State {
            dirty: self
                .services
                .list()
                .iter()
                .map(|s| ObjectName::of(&**s))
                .collect(),
            ..State::default()
        };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut rebuild = tokio::time::interval_at(tokio::time::Instant::now() + REBUILD, REBUILD);
        loop {
            let retry = if self.apply(&mut state).await {
                backoff.reset();
                None
            } else {
                Some(backoff.next_delay())
            };
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
                change = services.next() => match change {
                    Some(change) => note(&mut state.dirty, &change, named),
                    None => return, // the cache has stopped: so does the process
                },
                change = slices.next() => match change {
                    Some(change) => note(&mut state.dirty, &change, owner),
                    None => return,
                },
                _ = rebuild.tick() => state.applied = None,
            }
            tokio::time::sleep(SETTLE).await;
            drain(&mut state.dirty, &mut services, named);
            drain(&mut state.dirty, &mut slices, owner);
        }
    }

    /// Brings the kernel to the caches' state; false when that failed.
    async fn apply(&self, state: &mut State) -> bool {
        for name in std::mem::take(&mut state.dirty) {
            self.update(&mut state.model, &name);
        }
        let wanted = compute(&state.model, &self.scope);
        let script = match &state.applied {
            Some(applied) => diff(&self.table, applied, &wanted),
            None => self.anew(&wanted).await,
        };
        if script.is_empty() {
            // Endpoints of other nodes may have changed without a rule of ours.
            state.followed = Some(state.model.clone());
            return true;
        }
        if let Err(error) = nft::apply(&script).await {
            tracing::error!(%error, "cannot apply Service rules; building the table anew");
            state.applied = None;
            self.synced.send_replace(false);
            return false;
        }
        state.applied = Some(wanted);
        let stale = match state.followed.replace(state.model.clone()) {
            Some(before) => conntrack::stale(&before, &state.model),
            None => self.leftover(&state.model).await,
        };
        conntrack::delete(&stale).await;
        self.synced.send_replace(true);
        true
    }

    /// The whole table, with the clients that an earlier one held to their endpoints.
    async fn anew(&self, wanted: &Ruleset) -> String {
        let mut script = full(&self.table, wanted, &self.scope);
        if !wanted.affinity.is_empty() {
            let held = affinity::read(&self.table).await;
            script.push_str(&affinity::restore(&self.table, &held, wanted));
        }
        script
    }

    /// Flows that an earlier process let begin.
    async fn leftover(&self, model: &Model) -> BTreeSet<conntrack::Stale> {
        match conntrack::list().await {
            Ok(listing) => conntrack::leftover(&listing, model, &self.scope),
            Err(error) => {
                tracing::warn!(%error, "stale UDP connections of an earlier run may linger");
                BTreeSet::new()
            }
        }
    }

    fn update(&self, model: &mut Model, name: &ObjectName) {
        let first = PortName {
            namespace: name.namespace.clone(),
            service: name.name.clone(),
            port: String::new(),
        };
        let old: Vec<PortName> = model
            .range(first..)
            .map(|(port, _)| port)
            .take_while(|port| port.namespace == name.namespace && port.service == name.name)
            .cloned()
            .collect();
        for port in old {
            model.remove(&port);
        }
        let Some(service) = self.services.get_named(name) else {
            return;
        };
        let slices = self
            .slices
            .by_index(BY_SERVICE, &format!("{}/{}", name.namespace, name.name));
        let slices: Vec<&EndpointSlice> = slices.iter().map(|slice| &**slice).collect();
        let ports: BTreeMap<_, _> = service_ports(&service, &slices, &self.node)
            .into_iter()
            .collect();
        model.extend(ports);
    }
}

fn named(service: &Service) -> Vec<ObjectName> {
    vec![ObjectName::of(service)]
}

fn owner(slice: &EndpointSlice) -> Vec<ObjectName> {
    let split = |key: String| {
        key.split_once('/')
            .map(|(ns, name)| ObjectName::new(ns, name))
    };
    service_of(slice).into_iter().filter_map(split).collect()
}

fn note<T: Cached>(
    dirty: &mut BTreeSet<ObjectName>,
    change: &Change<T>,
    names: fn(&T) -> Vec<ObjectName>,
) {
    dirty.extend(names(change.object()));
    if let Some(old) = change.old() {
        dirty.extend(names(old));
    }
}

fn drain<T: Cached>(
    dirty: &mut BTreeSet<ObjectName>,
    changes: &mut Changes<T>,
    names: fn(&T) -> Vec<ObjectName>,
) {
    while let Some(change) = changes.try_next() {
        note(dirty, &change, names);
    }
}
