//! What a pod holds while its containers change size: the larger of what it asks for, what its node has promised, and what
//! its containers have.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::pod::raise;
use super::{Amounts, amounts, to_json};
use crate::kinds::value::{Get, items_at, object_at, same, set};

/// The spec of a pod with what each container holds for its resources. The same spec where nothing is under way.
pub(super) fn spec(pod: &Value) -> Cow<'_, Value> {
    let spec = pod.at("spec");
    let asked_for = !is_infeasible(pod);
    let mut held = Cow::Borrowed(spec);
    for (list, statuses) in [
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
    ] {
        for (i, container) in spec.list(list).iter().enumerate() {
            let name = container.text("name");
            let sized = list == "containers" || container.text("restartPolicy") == "Always";
            let all = pod.at("status").list(statuses);
            let status = all.iter().find(|status| status.text("name") == name);
            let Some(status) = status.filter(|status| sized && status.has("resources")) else {
                continue;
            };
            let resources = of_container(container, status, asked_for);
            if same(&resources, container.at("resources")) {
                continue;
            }
            if let Some(container) = items_at(held.to_mut(), list).nth(i)
                && let Some(all) = object_at(container, "resources")
            {
                for which in ["requests", "limits"] {
                    set(all, which, resources.at(which).clone());
                }
            }
        }
    }
    held
}

fn of_container(container: &Value, status: &Value, asked_for: bool) -> Value {
    let (asked, has) = (container.at("resources"), status.at("resources"));
    let most = |which: &str, promised: &Value| {
        let mut most = Amounts::new();
        raise(&mut most, &amounts(has.at(which)));
        raise(&mut most, &amounts(promised));
        if asked_for {
            raise(&mut most, &amounts(asked.at(which)));
        }
        to_json(&most)
    };
    json!({
        "requests": most("requests", status.at("allocatedResources")),
        "limits": most("limits", &Value::Null),
    })
}

/// The node never has room for what is asked for, so that it counts for nothing.
fn is_infeasible(pod: &Value) -> bool {
    let conditions = pod.at("status").list("conditions");
    let pending = conditions
        .iter()
        .find(|condition| condition.text("type") == "PodResizePending");
    pending.is_some_and(|pending| pending.text("reason") == "Infeasible")
}
