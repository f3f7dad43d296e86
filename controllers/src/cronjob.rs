//! CronJob: owns Jobs that are made at scheduled times. Watches CronJobs and Jobs; creates and deletes Jobs, writes
//! `cronjobs/status`.
//!
//! A Job's name is made of the minute that it is for, so that none is made twice. Its uid is known only when it is there:
//! the run after a creation finds the Job by its name and puts it into the status, and so does the next leader if this one
//! ends in between.

mod children;
mod history;
mod job;
mod moment;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::cron::{self, Schedule};
use corten_api::quote::quote;
use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::client::{DeleteOptions, Propagation};
use corten_client::events::EventKind;
use corten_client::object::controller_of;
use corten_client::runner::{Action, Controller, Failed, Plan};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use crate::pods::BY_CONTROLLER;
use moment::Moments;

/// A run comes so much after the scheduled time, for clocks that are a little apart. Upstream's number.
const LATER: Duration = Duration::from_millis(100);

/// The controller over its caches.
pub struct CronJobs {
    /// All CronJobs.
    pub cron_jobs: Cache<CronJob>,
    /// All Jobs, indexed by [`BY_CONTROLLER`].
    pub jobs: Cache<Job>,
    /// When the schedule was last changed, by uid: times of the new one that were before are not missed.
    pub rescheduled: Mutex<HashMap<String, Timestamp>>,
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// The CronJob, unless it is gone.
    pub cron_job: Option<Arc<CronJob>>,
    /// Jobs that it manages.
    pub jobs: Vec<Arc<Job>>,
    /// Names in its namespace that Jobs of others have.
    pub taken: Vec<String>,
    /// When its schedule was last changed, if this process saw it.
    pub rescheduled: Option<Timestamp>,
}

impl CronJobs {
    /// Keys to wake for a changed CronJob.
    pub fn of_cron_job(&self, change: &Change<CronJob>) -> Vec<ObjectName> {
        let new = change.object();
        let uid = || new.metadata.uid.clone().unwrap_or_default();
        let schedule = |cron_job: &CronJob| {
            let spec = cron_job.spec.as_ref();
            spec.map(|spec| (spec.schedule.clone(), spec.time_zone.clone()))
        };
        if change.is_removed() {
            self.rescheduled.lock().remove(&uid());
        } else if change
            .old()
            .is_some_and(|old| schedule(old) != schedule(new))
        {
            self.rescheduled.lock().insert(uid(), Timestamp::now());
        }
        vec![ObjectName::of(&**new)]
    }

    /// Keys to wake for a changed Job: its CronJob before and after.
    pub fn of_job(&self, change: &Change<Job>) -> Vec<ObjectName> {
        let mut keys: Vec<ObjectName> = std::iter::once(change.object())
            .chain(change.old())
            .filter_map(|job| {
                let owner = controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob")?;
                let namespace = job.metadata.namespace.clone().unwrap_or_default();
                Some(ObjectName::new(namespace, owner.name.clone()))
            })
            .collect();
        keys.dedup();
        keys
    }
}

impl Controller for CronJobs {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "cronjob-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let Some(cron_job) = self.cron_jobs.get_named(key) else {
            return View::default();
        };
        let uid = cron_job.metadata.uid.as_deref().unwrap_or_default();
        let others = self.jobs.list_namespace(&key.namespace);
        let others = others.iter().filter(|job| {
            let owner = controller_of(&job.metadata);
            owner.is_none_or(|owner| owner.uid != uid)
        });
        View {
            jobs: self.jobs.by_index(BY_CONTROLLER, uid),
            taken: others.filter_map(|job| job.metadata.name.clone()).collect(),
            rescheduled: self.rescheduled.lock().get(uid).copied(),
            cron_job: Some(cron_job),
        }
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let Some(cron_job) = &view.cron_job else {
            return Plan::nothing();
        };
        let Some(spec) = &cron_job.spec else {
            return Plan::nothing();
        };
        let mut run = Run {
            cron_job,
            spec,
            view,
            now,
            status: cron_job.status.clone().unwrap_or_default(),
            plan: Plan::nothing(),
            events: Vec::new(),
        };
        let old = history::superfluous(spec, &view.jobs);
        run.follow_jobs();
        let start = run.start();
        run.write_status();
        run.flush_events();
        if let Some(job) = start {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            run.plan.push(Action::create(&job));
            run.tell(
                EventKind::Normal,
                "SuccessfulCreate",
                format!("Created job {name}"),
            );
            run.flush_events();
        }
        for job in old {
            run.plan.begin_group();
            run.delete(job);
            run.flush_events();
        }
        run.plan
    }

    fn after_failure(&self, view: &View, failed: &[Failed], _now: Timestamp) -> Plan {
        let Some(cron_job) = &view.cron_job else {
            return Plan::nothing();
        };
        let told = failed.iter().filter_map(|failure| {
            let error = &failure.error;
            let (reason, what) = match failure.tried {
                // A Job that the cache did not show yet is found by the next run, and in a namespace that goes there is
                // nothing to tell.
                Action::Create { .. }
                    if !error.is_already_exists() && !error.has_cause("NamespaceTerminating") =>
                {
                    ("FailedCreate", "Error creating job")
                }
                Action::Delete { .. } => ("FailedDelete", "Deleted job"),
                _ => return None,
            };
            let message = format!("{what}: {error}");
            let kind = EventKind::Warning;
            Some(Action::event(&**cron_job, kind, reason, message))
        });
        Plan::of(told)
    }
}

/// One run.
struct Run<'a> {
    cron_job: &'a CronJob,
    spec: &'a CronJobSpec,
    view: &'a View,
    now: Timestamp,
    /// The status as it is going to be.
    status: CronJobStatus,
    plan: Plan,
    /// What is told once the writes before it are done.
    events: Vec<Action>,
}

impl Run<'_> {
    fn tell(&mut self, kind: EventKind, reason: &str, message: impl Into<String>) {
        let event = Action::event(self.cron_job, kind, reason, message);
        self.events.push(event);
    }

    fn flush_events(&mut self) {
        self.plan.actions.append(&mut self.events);
    }

    fn warn(&mut self, reason: &str, message: impl Into<String>) {
        self.tell(EventKind::Warning, reason, message);
    }

    fn delete(&mut self, job: &Job) {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Deleted job {name}");
        let options = DeleteOptions::default().propagation(Propagation::Background);
        self.plan.push(Action::delete_with(job, options));
        self.tell(EventKind::Normal, "SuccessfulDelete", message);
    }

    /// The schedule and its time zone, if both can be understood. Says so if not.
    fn schedule(&mut self) -> Option<(Schedule, TimeZone)> {
        let zone = match self.spec.time_zone.as_deref() {
            None | Some("") => TimeZone::UTC,
            Some(name) => match cron::time_zone(name) {
                Some(zone) => zone,
                None => {
                    let quoted = quote(name);
                    let message = format!("invalid timeZone: {quoted}: unknown time zone {name}");
                    self.warn("UnknownTimeZone", message);
                    return None;
                }
            },
        };
        if self.spec.suspend.unwrap_or(false) {
            return None;
        }
        let text = &self.spec.schedule;
        if text.contains("TZ") {
            let quoted = quote(text);
            self.warn(
                "UnsupportedSchedule",
                format!("CRON_TZ or TZ used in schedule {quoted} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"),
            );
        }
        match Schedule::parse(text) {
            Ok(schedule) => Some((schedule, zone)),
            Err(fault) => {
                let message = format!("unparseable schedule: {} : {fault}", quote(text));
                self.warn("UnparseableSchedule", message);
                None
            }
        }
    }

    /// The Job that is due. Asks to be woken for the next one.
    fn start(&mut self) -> Option<Job> {
        if self.cron_job.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let (schedule, zone) = self.schedule()?;
        let moments = Moments {
            schedule: &schedule,
            zone: &zone,
            since: self.since(),
            now: self.now,
        };
        let due = match moments.due(self.spec.starting_deadline_seconds) {
            Ok(due) => due,
            Err(fault) => {
                let message = format!("invalid schedule: {} : {fault}", self.spec.schedule);
                self.warn("InvalidSchedule", message);
                return None;
            }
        };
        if let Some(next) = moments.next() {
            let wait = Duration::try_from(next.duration_since(self.now)).unwrap_or_default();
            self.plan.requeue(wait + LATER);
        }
        let due = due?;
        if due.many_missed {
            self.warn(
                "TooManyMissedTimes",
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew",
            );
        }
        self.start_at(due.at, &zone)
    }

    /// From when on times count.
    fn since(&self) -> Timestamp {
        let created = self.cron_job.metadata.creation_timestamp.as_ref();
        let last = self.status.last_schedule_time.as_ref().or(created);
        let last = last.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        self.view.rescheduled.map_or(last, |at| at.max(last))
    }

    fn start_at(&mut self, time: Timestamp, zone: &TimeZone) -> Option<Job> {
        let deadline = self.spec.starting_deadline_seconds;
        if deadline.is_some_and(|max| moment::seconds(time, max).is_ok_and(|end| end < self.now)) {
            let time = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
            let message = format!("Missed scheduled time to start a job: {time}");
            self.warn("MissSchedule", message);
            return None;
        }
        let name = job::name(self.cron_job, time);
        let processed = self.status.last_schedule_time.as_ref() == Some(&Time(time));
        let active = self.status.active.iter().flatten();
        let mut names = active
            .filter_map(|job| job.name.as_ref())
            .chain(&self.view.taken);
        if processed || names.any(|held| *held == name) {
            return None;
        }
        let running = self
            .status
            .active
            .as_ref()
            .is_some_and(|all| !all.is_empty());
        match self.spec.concurrency_policy.as_deref() {
            Some("Forbid") if running => {
                self.tell(
                    EventKind::Normal,
                    "JobAlreadyActive",
                    "Not starting job because prior execution is running and concurrency policy is Forbid",
                );
                return None;
            }
            Some("Replace") if running => self.replace(),
            _ => {}
        }
        Some(job::of(self.cron_job, self.spec, name, (time, zone)))
    }

    /// Deletes the Jobs that still run.
    fn replace(&mut self) {
        let active = self.status.active.take().unwrap_or_default();
        for job in &self.view.jobs {
            if active.iter().any(|held| held.uid == job.metadata.uid) {
                self.delete(job);
            }
        }
    }

    fn write_status(&mut self) {
        let comparable = |status: &CronJobStatus| {
            let active = status.active.clone().filter(|active| !active.is_empty());
            CronJobStatus {
                active,
                ..status.clone()
            }
        };
        let wanted = comparable(&self.status);
        let before = self.cron_job.status.as_ref().map(comparable);
        if wanted != before.unwrap_or_default() {
            let changed = CronJob {
                status: Some(wanted),
                ..self.cron_job.clone()
            };
            self.plan.push(Action::update_status(&changed));
        }
    }
}

#[cfg(test)]
mod tests;
