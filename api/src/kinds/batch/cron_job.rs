//! CronJob: a Job at each time of a schedule.

use jiff::Timestamp;
use serde_json::Value;

use super::job;
use crate::cron::{self, Schedule};
use crate::field::FieldError;
use crate::kinds::apps::workload::{pod_name_warning, validate_non_negative};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, default_to, object_at};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration, table,
};

/// `cronjobs` of batch/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "batch",
    version: "v1",
    kind: "CronJob",
    list_kind: "CronJobList",
    resource: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "cronjobs",
    subresources: &[Subresource::status("CronJob")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Schedule", "When its Jobs begin, as cron has it."),
        Column::text("Timezone", "The time zone of the schedule."),
        Column::boolean("Suspend", "Whether no more Jobs begin for now."),
        Column::integer("Active", "Jobs of it that run."),
        Column::text("Last Schedule", "Time since its last Job was due."),
        Column::AGE,
        Column::text("Containers", "Names of the template's containers.").wide(),
        Column::text("Images", "Images of the template's containers.").wide(),
        Column::text("Selector", "Labels of its Jobs' pods.").wide(),
    ],
    strategy: &CronJob,
};

/// What a time in minutes and a hyphen leave of a Job's name.
const NAME_MAX: usize = 52;

struct CronJob;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    ..Rules::NAMESPACED
};

impl Strategy for CronJob {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        if let Some(template) = object_at(spec, "jobTemplate")
            && object_at(template, "metadata").is_some()
            && let Some(spec) = object_at(template, "spec")
        {
            job::default_template(spec);
        }
        default_to(spec, "concurrencyPolicy", "Allow");
        default_to(spec, "suspend", false);
        default_to(spec, "successfulJobsHistoryLimit", 3);
        default_to(spec, "failedJobsHistoryLimit", 1);
    }

    fn init(&self, object: &mut Value) {
        object_at(object, "status");
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        validate_spec(object.at("spec"), None, errors);
        let name = object.at("metadata").text("name");
        if name.len() > NAME_MAX {
            let detail = format!("must be no more than {NAME_MAX} characters");
            errors.invalid(&Path::new("metadata.name"), name, detail);
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_spec(new.at("spec"), Some(old.at("spec")), errors);
    }

    fn warnings_of_new(&self, object: &Value) -> Vec<String> {
        pod_name_warning(object).into_iter().collect()
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let spec = object.at("spec");
        let path = Path::new("spec.jobTemplate.spec");
        let mut found = job::spec_warnings(spec.at("jobTemplate").at("spec"), &path);
        if spec.text("schedule").contains("TZ") {
            // Upstream has this path.
            found.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_owned(),
            );
        }
        found
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let (spec, status) = (object.at("spec"), object.at("status"));
        let job = spec.at("jobTemplate").at("spec");
        let (containers, images) = table::containers_and_images(job.at("template").at("spec"));
        let suspend = match spec.at("suspend").as_bool() {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let last = match status.opt("lastScheduleTime") {
            Some(last) => duration::age(last, now),
            None => "<none>".to_owned(),
        };
        vec![
            meta.text("name").into(),
            spec.text("schedule").into(),
            spec.opt_text("timeZone").unwrap_or("<none>").into(),
            suspend.into(),
            status.list("active").len().into(),
            last.into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            containers.into(),
            images.into(),
            table::label_selector(job.at("selector")).into(),
        ]
    }
}

fn validate_spec(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    validate_schedule(spec, old, &path.child("schedule"), errors);
    validate_non_negative(spec, &path, &["startingDeadlineSeconds"], errors);
    if old.is_none_or(|old| old.at("timeZone") != spec.at("timeZone")) {
        validate_time_zone(spec, &path.child("timeZone"), errors);
    }
    let at = path.child("concurrencyPolicy");
    let policies = ["Allow", "Forbid", "Replace"];
    errors.one_of(&at, spec.text("concurrencyPolicy"), &policies);
    let at = path.child("jobTemplate.spec");
    validate_template(spec.at("jobTemplate").at("spec"), &at, errors);
    let limits = ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    validate_non_negative(spec, &path, &limits, errors);
}

/// A zone inside a schedule is from a time before there was a field for it; what has one may keep it.
fn validate_schedule(spec: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let schedule = spec.text("schedule");
    if schedule.is_empty() {
        errors.required(path, "");
        return;
    }
    if let Err(fault) = Schedule::parse(schedule) {
        errors.invalid(path, schedule, fault.to_string());
    }
    let names_zone = |schedule: &str| schedule.contains("TZ");
    let allowed = old.is_some_and(|old| names_zone(old.text("schedule")));
    if !names_zone(schedule) {
        return;
    }
    if !allowed {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(path, schedule, detail);
    } else if spec.has("timeZone") {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.invalid(path, schedule, detail);
    }
}

fn validate_time_zone(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(zone) = spec.opt_text("timeZone") else {
        return;
    };
    let local = zone.eq_ignore_ascii_case("Local");
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    if local {
        let detail =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, detail);
    }
    if zone != "Local" && cron::time_zone(zone).is_none() {
        errors.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}

fn validate_template(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    job::validate::spec(spec, path, errors);
    if let Some(selector) = spec.opt("selector") {
        let detail = "`selector` will be auto-generated";
        errors.invalid(&path.child("selector"), selector, detail);
    }
    if spec.flag("manualSelector") {
        errors.push(FieldError::not_supported(
            &path.child("manualSelector").to_field_path(),
            true,
            ["nil", "false"],
        ));
    }
}

#[cfg(test)]
mod tests;
