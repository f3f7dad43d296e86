//! Writing one pod's status: only the newest matters, one write at a time, retried until it is in or the pod is gone.

use std::sync::Arc;
use std::time::Duration;

use corten_base::tasks::{self, TaskKind};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::task::JoinHandle;

use crate::context::{ApiFailure, PodApi};
use crate::traits::PodRef;

/// First and longest pause between tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long the last status may hold up the deletion of the object.
const DRAIN: Duration = Duration::from_secs(10);

type Write = JoinHandle<Result<(), ApiFailure>>;

pub(super) struct Publisher {
    api: Arc<dyn PodApi>,
    written: Option<PodStatus>,
    wanted: Option<(Arc<Pod>, PodStatus)>,
    writing: Option<(Write, PodStatus)>,
    gone: bool,
}

impl Publisher {
    pub(super) fn new(api: Arc<dyn PodApi>) -> Self {
        Self {
            api,
            written: None,
            wanted: None,
            writing: None,
            gone: false,
        }
    }

    /// Wants this status written. What is written or being written already is not written again.
    pub(super) fn offer(&mut self, pod: &Arc<Pod>, status: PodStatus) {
        let latest = self
            .writing
            .as_ref()
            .map(|(_, status)| status)
            .or(self.written.as_ref());
        if self.gone {
            return;
        }
        if latest == Some(&status) {
            self.wanted = None;
            return;
        }
        self.wanted = Some((pod.clone(), status));
        self.begin();
    }

    fn begin(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let Some((pod, status)) = self.wanted.take() else {
            return;
        };
        let (api, copy) = (self.api.clone(), status.clone());
        let write = tasks::spawn("pod-status", TaskKind::Background, async move {
            let mut pause = RETRY.0;
            loop {
                match api.write_status(&pod, &copy).await {
                    Ok(()) => return Ok(()),
                    Err(ApiFailure::Gone) => return Err(ApiFailure::Gone),
                    Err(ApiFailure::Refused(cause)) => {
                        tracing::debug!(pod = %PodRef::of(&pod), cause, "status not written yet");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(RETRY.1);
                    }
                }
            }
        });
        self.writing = Some((write, status));
    }

    /// Returns when a write has ended; the next one has begun then. Cancel-safe.
    pub(super) async fn progress(&mut self) {
        let Some((write, _)) = &mut self.writing else {
            return std::future::pending().await;
        };
        let result = write.await;
        let Some((_, status)) = self.writing.take() else {
            return;
        };
        match result {
            Ok(Ok(())) => self.written = Some(status),
            Ok(Err(_)) => self.gone = true,
            // The write panicked: the status counts as unwritten.
            Err(_) => {}
        }
        self.begin();
    }

    /// Waits until all is written, within limits.
    pub(super) async fn drain(&mut self) {
        let work = async {
            while self.writing.is_some() {
                self.progress().await;
            }
        };
        if tokio::time::timeout(DRAIN, work).await.is_err() {
            tracing::warn!("the last status of a pod could not be written");
        }
        if let Some((write, _)) = self.writing.take() {
            write.abort();
        }
    }

    /// Deletes the object; retried until it is gone.
    pub(super) async fn delete(&self, pod: &PodRef) {
        let mut pause = RETRY.0;
        loop {
            match self.api.delete(pod).await {
                Ok(()) | Err(ApiFailure::Gone) => return,
                Err(ApiFailure::Refused(cause)) => {
                    tracing::warn!(%pod, cause, "the pod's object could not be deleted yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }
}
