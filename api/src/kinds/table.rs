//! Table output: the columns of a kind and the cells of one object.
//!
//! Upstream sends narrow and wide columns alike and lets the client choose by priority; so do we.

use jiff::Timestamp;
use serde_json::Value;

pub use super::descriptor::Column;
use super::{ResourceDescriptor, value::Get};

/// The columns of a kind, wide ones included.
pub fn columns(descriptor: &ResourceDescriptor) -> &'static [Column] {
    descriptor.columns
}

/// The cells of one object, one for each column.
pub fn row(descriptor: &ResourceDescriptor, object: &Value, now: Timestamp) -> Vec<Value> {
    descriptor.strategy.row(object, now)
}

/// The columns as the API shows them in `columnDefinitions`.
pub fn column_definitions(descriptor: &ResourceDescriptor) -> Vec<Value> {
    let definition = |column: &Column| {
        serde_json::json!({
            "name": column.name,
            "type": column.r#type,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    };
    descriptor.columns.iter().map(definition).collect()
}

/// A label selector as kubectl prints it; `<none>` for none, empty text for one that selects everything.
pub(crate) fn label_selector(selector: &Value) -> String {
    if selector.is_null() {
        return "<none>".to_owned();
    }
    let mut parts: Vec<(String, String)> = selector
        .entries("matchLabels")
        .map(|(k, v)| (k.to_owned(), format!("{k}={}", v.as_str().unwrap_or(""))))
        .collect();
    for expression in selector.list("matchExpressions") {
        let key = expression.text("key");
        let mut values: Vec<&str> = expression
            .list("values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match expression.text("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        parts.push((key.to_owned(), text));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    let texts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    if texts.is_empty() {
        "<none>".to_owned()
    } else {
        texts.join(",")
    }
}

/// A map of labels as `a=b,c=d`, or `<none>`.
pub(crate) fn label_map(labels: &Value) -> String {
    let Some(map) = labels.as_object().filter(|map| !map.is_empty()) else {
        return "<none>".to_owned();
    };
    let mut pairs: Vec<String> = map
        .iter()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
        .collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// The names and the images of a pod template's containers, comma separated.
pub(crate) fn containers_and_images(pod_spec: &Value) -> (String, String) {
    let join = |key: &str| {
        let texts: Vec<&str> = pod_spec
            .list("containers")
            .iter()
            .map(|c| c.text(key))
            .collect();
        texts.join(",")
    };
    (join("name"), join("image"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::registry;

    #[test]
    fn selectors_print_as_kubectl_prints_them() {
        let cases = [
            (json!(null), "<none>"),
            (json!({}), "<none>"),
            (json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2"),
            (
                json!({"matchLabels": {"x": "1"}, "matchExpressions": [
                    {"key": "k", "operator": "In", "values": ["b", "a"]},
                    {"key": "e", "operator": "Exists"},
                    {"key": "n", "operator": "DoesNotExist"}]}),
                "e,k in (a,b),!n,x=1",
            ),
        ];
        for (selector, expected) in cases {
            assert_eq!(label_selector(&selector), expected);
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of kinds")]
    fn columns_are_those_that_people_know() {
        let headings = |kind: &str, wide: bool| {
            let descriptor = registry()
                .all()
                .find(|d| d.kind == kind)
                .expect("a known kind");
            let shown = columns(descriptor)
                .iter()
                .filter(|c| wide || c.priority == 0);
            shown
                .map(|c| c.name.to_uppercase())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let narrow = [
            ("ConfigMap", "NAME DATA AGE"),
            ("Endpoints", "NAME ENDPOINTS AGE"),
            ("Event", "LAST SEEN TYPE REASON OBJECT MESSAGE"),
            ("Namespace", "NAME STATUS AGE"),
            ("Node", "NAME STATUS ROLES AGE VERSION"),
            ("Pod", "NAME READY STATUS RESTARTS AGE"),
            ("Secret", "NAME TYPE DATA AGE"),
            ("Service", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"),
            ("ServiceAccount", "NAME AGE"),
            ("Deployment", "NAME READY UP-TO-DATE AVAILABLE AGE"),
            ("ReplicaSet", "NAME DESIRED CURRENT READY AGE"),
            (
                "DaemonSet",
                "NAME DESIRED CURRENT READY UP-TO-DATE AVAILABLE NODE SELECTOR AGE",
            ),
            ("StatefulSet", "NAME READY AGE"),
            ("ControllerRevision", "NAME CONTROLLER REVISION AGE"),
            ("Job", "NAME STATUS COMPLETIONS DURATION AGE"),
            (
                "CronJob",
                "NAME SCHEDULE TIMEZONE SUSPEND ACTIVE LAST SCHEDULE AGE",
            ),
            ("EndpointSlice", "NAME ADDRESSTYPE PORTS ENDPOINTS AGE"),
            ("Lease", "NAME HOLDER AGE"),
            (
                "PodDisruptionBudget",
                "NAME MIN AVAILABLE MAX UNAVAILABLE ALLOWED DISRUPTIONS AGE",
            ),
            (
                "PriorityClass",
                "NAME VALUE GLOBAL-DEFAULT AGE PREEMPTIONPOLICY",
            ),
            ("IngressClass", "NAME CONTROLLER PARAMETERS AGE"),
            ("Ingress", "NAME CLASS HOSTS ADDRESS PORTS AGE"),
            ("IPAddress", "NAME PARENTREF"),
            ("NetworkPolicy", "NAME POD-SELECTOR AGE"),
            ("ServiceCIDR", "NAME CIDRS AGE"),
            (
                "FlowSchema",
                "NAME PRIORITYLEVEL MATCHINGPRECEDENCE DISTINGUISHERMETHOD AGE MISSINGPL",
            ),
            (
                "PriorityLevelConfiguration",
                "NAME TYPE NOMINALCONCURRENCYSHARES QUEUES HANDSIZE QUEUELENGTHLIMIT AGE",
            ),
            ("Role", "NAME CREATED AT"),
            ("ClusterRole", "NAME CREATED AT"),
            ("RoleBinding", "NAME ROLE AGE"),
            ("ClusterRoleBinding", "NAME ROLE AGE"),
        ];
        for (kind, expected) in narrow {
            assert_eq!(headings(kind, false), expected, "{kind}");
        }
        let wide = [
            (
                "Event",
                "LAST SEEN TYPE REASON OBJECT SUBOBJECT SOURCE MESSAGE FIRST SEEN COUNT NAME",
            ),
            (
                "Pod",
                "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES",
            ),
            (
                "Node",
                "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME",
            ),
            (
                "Deployment",
                "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR",
            ),
            (
                "DaemonSet",
                "NAME DESIRED CURRENT READY UP-TO-DATE AVAILABLE NODE SELECTOR AGE CONTAINERS IMAGES SELECTOR",
            ),
            ("StatefulSet", "NAME READY AGE CONTAINERS IMAGES"),
            (
                "Job",
                "NAME STATUS COMPLETIONS DURATION AGE CONTAINERS IMAGES SELECTOR",
            ),
            (
                "CronJob",
                "NAME SCHEDULE TIMEZONE SUSPEND ACTIVE LAST SCHEDULE AGE CONTAINERS IMAGES SELECTOR",
            ),
            ("RoleBinding", "NAME ROLE AGE USERS GROUPS SERVICEACCOUNTS"),
        ];
        for (kind, expected) in wide {
            assert_eq!(headings(kind, true), expected, "{kind}");
        }
    }
}
