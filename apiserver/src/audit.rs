//! The audit log: who did what when, one JSON line of audit.k8s.io/v1 for each request, without bodies.
//!
//! Health checks and reads of discovery are left out, and so are the heartbeats of our own components, which would drown
//! the rest. A full queue drops lines and counts them: an audit disk that hangs must not stop the cluster. Invariant: every
//! write by a person or a pod is on record unless the drop counter says otherwise.

mod file;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::authn::User;
use crate::request::RequestInfo;
use crate::reviews::user_info;

/// Where the log goes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The current file; older ones get a number.
    pub path: PathBuf,
    /// A file of this size is rotated.
    pub bytes_max: u64,
    /// Rotated files that are kept.
    pub files_max: usize,
}

impl Settings {
    /// 100 MB files, five old ones.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            bytes_max: 100 * 1024 * 1024,
            files_max: 5,
        }
    }
}

/// Lines that wait for the disk.
const QUEUE: usize = 8192;

/// Takes events; cheap to clone.
#[derive(Clone, Default)]
pub struct Log {
    sender: Option<mpsc::Sender<String>>,
    dropped: Arc<AtomicU64>,
}

impl Log {
    /// Writes to a file until shutdown.
    pub fn start(settings: Settings, shutdown: &Shutdown) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        spawn(
            "audit",
            TaskKind::Background,
            file::write(settings, receiver, shutdown.clone()),
        );
        Self {
            sender: Some(sender),
            dropped: Arc::default(),
        }
    }

    /// A log that keeps nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Lines lost because the disk was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Records a finished request (or the start of a long-running one).
    pub fn record(&self, event: &Event<'_>) {
        let Some(sender) = &self.sender else { return };
        if event.is_noise() {
            return;
        }
        if sender.try_send(event.line()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Lets a gRPC method tell what its call was about: the path names only the method. Found in the request's extensions.
#[derive(Debug, Clone, Default)]
pub struct Slot(Arc<Mutex<Option<RequestInfo>>>);

impl Slot {
    /// Says what the call is about.
    pub fn set(&self, info: RequestInfo) {
        *self.0.lock() = Some(info);
    }

    /// What was said.
    pub fn get(&self) -> Option<RequestInfo> {
        self.0.lock().clone()
    }
}

/// One request.
#[derive(Debug)]
pub struct Event<'a> {
    /// Identifies the request.
    pub id: &'a str,
    /// What was asked.
    pub info: &'a RequestInfo,
    /// Path and query.
    pub uri: &'a str,
    /// Who proved to be asking; absent when authentication failed.
    pub user: Option<&'a User>,
    /// As whom, if impersonating.
    pub impersonated: Option<&'a User>,
    /// Where from.
    pub source: Option<std::net::IpAddr>,
    /// The User-Agent header.
    pub user_agent: &'a str,
    /// The response's code.
    pub code: u16,
    /// Whether the response only begins here.
    pub long_running: bool,
    /// When the request came.
    pub received: Timestamp,
}

impl Event<'_> {
    /// What would drown the rest.
    fn is_noise(&self) -> bool {
        let info = self.info;
        if !info.is_resource_request {
            return info.is_read_only() || info.path.starts_with("/corten.api.v1.Resources/");
        }
        let component = self.user.is_some_and(|user| {
            user.name.starts_with("system:") && !user.name.starts_with("system:serviceaccount:")
        });
        let heartbeat =
            matches!(info.resource.as_str(), "leases" | "events") || info.is_read_only();
        component && heartbeat && self.impersonated.is_none() && self.code < 400
    }

    fn line(&self) -> String {
        let now = Timestamp::now();
        let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let mut event = Map::new();
        let mut add = |key: &str, value: Value| drop(event.insert(key.to_owned(), value));
        add("kind", "Event".into());
        add("apiVersion", "audit.k8s.io/v1".into());
        add("level", "Metadata".into());
        add("auditID", self.id.into());
        add(
            "stage",
            if self.long_running {
                "ResponseStarted"
            } else {
                "ResponseComplete"
            }
            .into(),
        );
        add("requestURI", self.uri.into());
        add("verb", self.info.verb.as_str().into());
        add("user", self.user.map_or_else(|| json!({}), user_info));
        if let Some(user) = self.impersonated {
            add("impersonatedUser", user_info(user));
        }
        add(
            "sourceIPs",
            self.source
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .into(),
        );
        add("userAgent", self.user_agent.into());
        if self.info.is_resource_request {
            add("objectRef", object_ref(self.info));
        }
        add("responseStatus", json!({"metadata": {}, "code": self.code}));
        add("requestReceivedTimestamp", time(self.received).into());
        add("stageTimestamp", time(now).into());
        Value::Object(event).to_string()
    }
}

fn object_ref(info: &RequestInfo) -> Value {
    let fields = [
        ("resource", &info.resource),
        ("namespace", &info.namespace),
        ("name", &info.name),
        ("apiGroup", &info.api_group),
        ("apiVersion", &info.api_version),
        ("subresource", &info.subresource),
    ];
    let present = fields.into_iter().filter(|(_, value)| !value.is_empty());
    Value::Object(
        present
            .map(|(name, value)| (name.to_owned(), value.clone().into()))
            .collect(),
    )
}
