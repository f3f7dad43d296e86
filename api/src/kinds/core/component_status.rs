//! ComponentStatus: whether a part of the control plane answers; made when somebody asks, never stored.
//!
//! Upstream has called it deprecated since v1.19 and serves it still, for `kubectl get componentstatuses`.

use jiff::Timestamp;
use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::value::Get;
use crate::kinds::{Column, ResourceDescriptor, Rules, Strategy};

/// `componentstatuses` of v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "ComponentStatus",
    list_kind: "ComponentStatusList",
    resource: "componentstatuses",
    singular: "componentstatus",
    short_names: &["cs"],
    categories: &[],
    namespaced: false,
    storage_prefix: "",
    subresources: &[],
    verbs: &["get", "list"],
    columns: &[
        Column::NAME,
        Column::text("Status", "Whether the component is healthy."),
        Column::text("Message", "What it answered."),
        Column::text("Error", "What was wrong."),
    ],
    strategy: &ComponentStatus,
};

struct ComponentStatus;

impl Strategy for ComponentStatus {
    fn rules(&self) -> &Rules {
        &Rules::CLUSTER
    }

    fn validate_create(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let conditions = object.list("conditions");
        let healthy = conditions.iter().find(|it| it.text("type") == "Healthy");
        let (status, message, error) = match healthy {
            None => ("Unknown", "", ""),
            Some(it) => (
                match it.text("status") {
                    "True" => "Healthy",
                    _ => "Unhealthy",
                },
                it.text("message"),
                it.text("error"),
            ),
        };
        vec![
            object.at("metadata").text("name").into(),
            status.into(),
            message.into(),
            error.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn row_tells_the_condition() {
        let row = |conditions: Value| {
            let object = json!({"metadata": {"name": "etcd-0"}, "conditions": conditions});
            Value::from(ComponentStatus.row(&object, Timestamp::UNIX_EPOCH))
        };
        assert_eq!(
            row(json!([{"type": "Healthy", "status": "True", "message": "ok"}])),
            json!(["etcd-0", "Healthy", "ok", ""])
        );
        assert_eq!(
            row(json!([{"type": "Healthy", "status": "False", "message": "no leader"}])),
            json!(["etcd-0", "Unhealthy", "no leader", ""])
        );
        assert_eq!(row(json!([])), json!(["etcd-0", "Unknown", "", ""]));
    }
}
