//! What goes into the pod machine and what comes out of it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LifecycleHandler, Pod, Probe};

use super::machine::Resized;
use super::probing::ProbeKind;
use super::resize::{Sizing, Verdict};
use crate::traits::ImageRecord;

/// The present, in both kinds of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary origin; for durations and deadlines.
    pub mono: Duration,
    /// For what people read.
    pub wall: Timestamp,
}

/// How a container's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    /// Create or start failed; the runtime's words.
    pub start_error: Option<String>,
    /// The supervisor vanished without a record.
    pub lost: bool,
    /// Content of the termination message file, or of the log's tail.
    pub message: Option<String>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The object changed (or time passed: the machine always looks at the clock).
    Updated(Arc<Pod>),
    /// The object is gone from the API.
    Removed,
    /// This node cannot run it.
    Rejected {
        reason: String,
        message: String,
    },
    /// The node is short of memory, and this pod must go at once.
    Evicted {
        message: String,
    },
    /// What the node says to the size that the pod asks for; comes before the object that asks.
    Resize(Verdict),
    Resized(Box<Resized>),
    Tick,
    VolumesReady,
    VolumesFailed {
        message: String,
    },
    VolumesGone {
        error: Option<String>,
    },
    SandboxReady {
        ips: Vec<IpAddr>,
    },
    SandboxFailed {
        message: String,
    },
    SandboxGone {
        error: Option<String>,
    },
    /// A pull has begun (not merely a look-up).
    Pulling {
        container: String,
    },
    ImageReady {
        container: String,
        image: Box<ImageRecord>,
        pulled: Option<String>,
    },
    ImageFailed {
        container: String,
        reason: &'static str,
        message: String,
        backs_off: bool,
    },
    /// The container could not be configured or created; nothing ran.
    CreateFailed {
        container: String,
        attempt: u32,
        reason: &'static str,
        message: String,
    },
    Started {
        container: String,
        attempt: u32,
        id: String,
        at: Timestamp,
    },
    Exited {
        container: String,
        attempt: u32,
        id: String,
        exit: Exit,
    },
    PostStartDone {
        container: String,
        attempt: u32,
        error: Option<String>,
    },
    PreStopDone {
        container: String,
        attempt: u32,
        error: Option<String>,
    },
    Probed {
        container: String,
        attempt: u32,
        kind: ProbeKind,
        ok: bool,
        /// What was seen; of a probe that is ok, what is to be warned about.
        output: String,
    },
}

/// Severity of an API event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Normal,
    Warning,
}

/// What to do. Every action is idempotent or carries the attempt it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    SetupVolumes,
    TeardownVolumes,
    CreateSandbox,
    RemoveSandbox,
    PullImage {
        container: String,
    },
    Start {
        container: String,
        attempt: u32,
        image: Box<ImageRecord>,
    },
    PostStart {
        container: String,
        attempt: u32,
        hook: LifecycleHandler,
    },
    PreStop {
        container: String,
        attempt: u32,
        hook: LifecycleHandler,
        timeout: Duration,
    },
    /// The container's stop signal (None) or SIGKILL.
    Terminate {
        container: String,
        id: String,
    },
    Kill {
        container: String,
        id: String,
    },
    Probe {
        container: String,
        attempt: u32,
        id: String,
        kind: ProbeKind,
        probe: Box<Probe>,
    },
    /// Give the pod's group, and these containers, the size that is promised.
    Resize {
        containers: Vec<Sizing>,
    },
    /// Forget a dead container: its directory and its log.
    Remove {
        container: String,
        id: String,
    },
    Report {
        severity: Severity,
        reason: Cow<'static, str>,
        message: String,
        container: Option<String>,
    },
    /// Everything has stopped and the last status is known: delete the object with grace 0.
    Finish,
}
