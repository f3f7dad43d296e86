//! Which container of a pod is meant.
//!
//! Invariant: with several containers none is guessed, and the refusal names them all.

use corten_api::status::Status;
use serde_json::Value;

/// The container's name, checked or chosen.
pub(super) fn choose(pod: &Value, wanted: &str) -> Result<String, Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let own = names(pod, "containers");
    let init = names(pod, "initContainers");
    let ephemeral = names(pod, "ephemeralContainers");
    if !wanted.is_empty() {
        let known = [&own, &init, &ephemeral]
            .into_iter()
            .any(|list| list.contains(&wanted));
        return match known {
            true => Ok(wanted.to_owned()),
            false => Err(Status::bad_request(format!(
                "container {wanted} is not valid for pod {name}"
            ))),
        };
    }
    match own.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}"
        ))),
        several => {
            let mut message = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            );
            if !init.is_empty() {
                message.push_str(&format!(
                    " or one of the init containers: [{}]",
                    init.join(" ")
                ));
            }
            if !ephemeral.is_empty() {
                message.push_str(&format!(
                    " or one of the ephemeral containers: [{}]",
                    ephemeral.join(" ")
                ));
            }
            Err(Status::bad_request(message))
        }
    }
}

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    let items = pod["spec"][list]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    items
        .iter()
        .filter_map(|container| container["name"].as_str())
        .collect()
}
