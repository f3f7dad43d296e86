//! What the Jobs of a CronJob mean for its status: which run, when one was made and when one succeeded last.

use corten_client::events::EventKind;
use corten_client::object::reference;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Run, job};
use crate::job::finished;

impl Run<'_> {
    pub(super) fn follow_jobs(&mut self) {
        for job in &self.view.jobs {
            let known = self.is_active(job);
            match finished(job) {
                Some(condition) => {
                    if known {
                        let name = job.metadata.name.as_deref().unwrap_or_default();
                        let how = &condition.type_;
                        let message = format!("Saw completed job: {name}, condition: {how}");
                        self.forget(job);
                        self.tell(EventKind::Normal, "SawCompletedJob", message);
                    }
                    if condition.type_ == "Complete" {
                        self.note_success(job);
                    }
                }
                None if !known => self.find(job),
                None => {}
            }
            self.note_schedule(job);
        }
        self.miss();
    }

    fn is_active(&self, job: &Job) -> bool {
        let mut active = self.status.active.iter().flatten();
        active.any(|held| held.uid == job.metadata.uid)
    }

    fn forget(&mut self, job: &Job) {
        let active = self.status.active.get_or_insert_default();
        active.retain(|held| held.uid != job.metadata.uid);
    }

    /// A running Job that the status does not have: one that was just made, or one that somebody else made.
    fn find(&mut self, job: &Job) {
        if job.metadata.deletion_timestamp.is_some() {
            return; // replaced, or deleted by someone
        }
        if job::scheduled(self.cron_job, job).is_some() {
            let active = self.status.active.get_or_insert_default();
            active.push(reference(job));
            return;
        }
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Saw a job that the controller did not create or forgot: {name}");
        self.warn("UnexpectedJob", message);
    }

    fn note_success(&mut self, job: &Job) {
        let status = job.status.as_ref();
        let completed = status.and_then(|status| status.completion_time.clone());
        // `None` is before all times.
        let last = &mut self.status.last_successful_time;
        *last = last.take().max(completed);
    }

    fn note_schedule(&mut self, job: &Job) {
        let time = job::scheduled(self.cron_job, job).map(Time);
        let last = &mut self.status.last_schedule_time;
        *last = last.take().max(time);
    }

    /// Jobs that the status has and that are gone.
    fn miss(&mut self) {
        let active = self.status.active.take().unwrap_or_default();
        let there =
            |uid: &Option<String>| self.view.jobs.iter().any(|job| job.metadata.uid == *uid);
        let (kept, missing): (Vec<_>, Vec<_>) = active.into_iter().partition(|job| there(&job.uid));
        self.status.active = Some(kept);
        for job in missing {
            let name = job.name.unwrap_or_default();
            let message = format!("Active job went missing: {name}");
            self.tell(EventKind::Normal, "MissingJob", message);
        }
    }
}
