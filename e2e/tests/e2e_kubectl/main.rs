//! kubectl, unmodified, verb by verb, against a small cluster. Every verb that a working guide uses has at least one
//! assertion on what it prints or changes.
//!
//! | verbs | file |
//! |---|---|
//! | get (yaml, jsonpath, -l, --field-selector), apply, diff, edit, label, annotate, patch, explain, api-resources, auth can-i, delete | `objects` |
//! | get (wide, -w), describe, wait, events, logs (-f, --previous), exec (-i, -it), cp, attach (-i, -it), run -i, port-forward | `streams` |
//! | create, scale, rollout, set image, expose, run | `workloads` |
//! | create job, cronjob, job --from; wait for conditions, logs job/ | `jobs` |
//! | certificate approve, deny; auth whoami, config set-credentials | `certificates` |
//! | cordon, drain, uncordon, delete namespace | `nodes` |

mod certificates;
mod jobs;
mod nodes;
mod objects;
mod streams;
mod workloads;

use anyhow::{Result, ensure};
use corten_e2e::cluster::Cluster;

#[test]
fn every_verb_of_a_working_guide() {
    let cluster = Cluster::start("kubectl", 1, 2).expect("cluster");
    let steps: [fn(&Cluster) -> Result<()>; 6] = [
        objects::run,
        streams::run,
        workloads::run,
        jobs::run,
        certificates::run,
        nodes::run,
    ];
    for run in steps {
        run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn has(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    Ok(())
}
