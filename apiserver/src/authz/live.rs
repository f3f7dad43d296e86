//! The authorizer of a running server: super users, then nodes, then RBAC, over indexes that follow the registry.
//!
//! It decides from memory alone and is told of changes by tasks that follow the watch cache. Invariant: until the first
//! full state of every followed resource has arrived, [`Live::synced`] is false and only `system:masters` passes; until the
//! default rules have arrived too, nobody is told 403 for good.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::authn::{GROUP_MASTERS, User};
use crate::authz::node::Graph;
use crate::authz::policy::{Policy, Rule};
use crate::authz::{Attributes, Authorizer, Decision, escalation, node, rbac};
use crate::chain::objects::{Change, FOLLOW_QUEUE, Objects, Resource};

/// What is followed: RBAC's objects, and the pods for the node authorizer.
pub const FOLLOWED: [Resource; 5] = [
    Resource::rbac("clusterroles"),
    Resource::rbac("clusterrolebindings"),
    Resource::rbac("roles"),
    Resource::rbac("rolebindings"),
    Resource::core("pods"),
];

/// See the module's words.
pub struct Live {
    policy: ArcSwap<Policy>,
    /// Serialises writers of `policy`; remembers what each resource holds, so that a reset can remove the rest.
    writer: Mutex<Known>,
    graph: RwLock<Graph>,
    synced: watch::Sender<usize>,
    /// Rules may be missing that will come without anybody's doing.
    loading: AtomicBool,
}

type Known = std::collections::HashMap<&'static str, HashSet<(String, String)>>;

impl Default for Live {
    fn default() -> Self {
        Self {
            policy: ArcSwap::default(),
            writer: Mutex::default(),
            graph: RwLock::default(),
            synced: watch::Sender::new(0),
            loading: AtomicBool::new(false),
        }
    }
}

impl Live {
    /// An authorizer without rules.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Starts to follow the registry. Refusals are not final until [`Live::loaded`].
    pub fn start(self: &Arc<Self>, objects: &Arc<dyn Objects>, shutdown: &Shutdown) {
        self.loading.store(true, Ordering::Release);
        for resource in FOLLOWED {
            let (sender, receiver) = mpsc::channel(FOLLOW_QUEUE);
            let (source, stop) = (Arc::clone(objects), shutdown.clone());
            spawn("authz-follow", TaskKind::Critical, async move {
                tokio::select! {
                    biased;
                    () = stop.wait() => {}
                    () = source.follow(resource, sender) => {}
                }
            });
            spawn(
                "authz-index",
                TaskKind::Critical,
                Arc::clone(self).index(resource, receiver),
            );
        }
    }

    async fn index(self: Arc<Self>, resource: Resource, mut changes: mpsc::Receiver<Change>) {
        let mut first = true;
        while let Some(change) = changes.recv().await {
            let reset = matches!(change, Change::Reset(_));
            self.apply(resource.name, change);
            if reset && first {
                first = false;
                self.synced.send_modify(|count| *count += 1);
            }
        }
    }

    /// Takes over one change of a followed resource.
    pub fn apply(&self, resource: &'static str, change: Change) {
        let mut known = self.writer.lock();
        let present = known.entry(resource).or_default();
        let (set, gone) = match change {
            Change::Set(object) => (vec![object], Vec::new()),
            Change::Removed { namespace, name } => (Vec::new(), vec![(namespace, name)]),
            Change::Reset(all) => {
                let fresh: HashSet<_> = all.iter().map(key_of).collect();
                (all, present.difference(&fresh).cloned().collect())
            }
        };
        for key in &gone {
            present.remove(key);
        }
        present.extend(set.iter().map(key_of));
        if resource == "pods" {
            let mut graph = self.graph.write();
            gone.iter()
                .for_each(|(namespace, name)| graph.remove_pod(namespace, name));
            set.iter().for_each(|pod| graph.set_pod(pod));
        } else {
            let mut policy = Policy::clone(&self.policy.load());
            gone.iter()
                .for_each(|(namespace, name)| policy.remove(resource, namespace, name));
            set.iter().for_each(|object| policy.set(resource, object));
            self.policy.store(Arc::new(policy));
        }
    }

    /// From here on a refusal is final.
    pub fn loaded(&self) {
        self.loading.store(false, Ordering::Release);
    }

    /// Whether an object of a followed resource has arrived.
    pub fn has(&self, resource: &'static str, namespace: &str, name: &str) -> bool {
        let known = self.writer.lock();
        let key = (namespace.to_owned(), name.to_owned());
        known.get(resource).is_some_and(|held| held.contains(&key))
    }

    /// Whether every followed resource has been seen whole.
    pub fn synced(&self) -> bool {
        *self.synced.borrow() >= FOLLOWED.len()
    }

    /// Returns when [`Live::synced`] is true.
    pub async fn wait_synced(&self) {
        let mut progress = self.synced.subscribe();
        // The sender lives as long as `self`, so this cannot fail while somebody waits.
        drop(progress.wait_for(|count| *count >= FOLLOWED.len()).await);
    }

    /// The rules that a user has, for access reviews.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        if user.in_group(GROUP_MASTERS) {
            return everything();
        }
        rbac::rules_for(&self.policy.load(), user, namespace)
    }

    /// Whether a write of an RBAC object grants only what its author holds. For admission.
    pub fn check_escalation(&self, write: &escalation::Write<'_>) -> Result<(), String> {
        escalation::check(&self.policy.load(), self, write)
    }

    /// Whether the pod is bound to the node. For token requests and NodeRestriction.
    pub fn pod_runs_on(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.graph.read().runs(node, namespace, name)
    }
}

impl Authorizer for Live {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.in_group(GROUP_MASTERS) {
            return Decision::Allow(String::new());
        }
        let by_node = node::authorize(&self.graph.read(), attributes);
        if let Decision::Allow(_) | Decision::Deny(_) = by_node {
            return by_node;
        }
        match rbac::authorize(&self.policy.load(), attributes) {
            Decision::NoOpinion(reason) => {
                let reasons = [by_node.reason(), &reason];
                let said: Vec<&str> = reasons
                    .into_iter()
                    .filter(|reason| !reason.is_empty())
                    .collect();
                Decision::NoOpinion(said.join(", "))
            }
            decided => decided,
        }
    }

    fn knows_all(&self) -> bool {
        !self.loading.load(Ordering::Acquire)
    }
}

/// What `system:masters` may do, in RBAC's words.
fn everything() -> Vec<Rule> {
    let all = || vec!["*".to_owned()];
    vec![
        Rule {
            verbs: all(),
            api_groups: all(),
            resources: all(),
            ..Rule::default()
        },
        Rule {
            verbs: all(),
            non_resource_urls: all(),
            ..Rule::default()
        },
    ]
}

fn key_of(object: &Value) -> (String, String) {
    let field = |name: &str| {
        object["metadata"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (field("namespace"), field("name"))
}
