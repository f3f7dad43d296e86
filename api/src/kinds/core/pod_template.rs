//! PodTemplate: a pod's description, kept for whoever wants it.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::apps::workload::validate_template_spec;
use crate::kinds::core::pod;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, object_at};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, table};

/// `podtemplates` of v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "PodTemplate",
    list_kind: "PodTemplateList",
    resource: "podtemplates",
    singular: "podtemplate",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "podtemplates",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Containers", "Names of the containers."),
        Column::text("Images", "Images of the containers."),
        Column::text("Pod Labels", "Labels of pods made from it."),
    ],
    strategy: &PodTemplate,
};

struct PodTemplate;

static RULES: Rules = Rules {
    generation: Generation::Content,
    ..Rules::NAMESPACED
};

impl Strategy for PodTemplate {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        if let Some(template) = object_at(object, "template") {
            pod::default_template(template);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate_template_spec(object.at("template"), &Path::new("template"), errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        pod::warnings(
            object.at("template").at("spec"),
            &Path::new("template.spec"),
        )
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let template = object.at("template");
        let (containers, images) = table::containers_and_images(template.at("spec"));
        vec![
            object.at("metadata").text("name").into(),
            containers.into(),
            images.into(),
            table::label_map(template.at("metadata").at("labels")).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, with};

    fn template() -> Value {
        json!({
            "metadata": {"name": "a", "namespace": "b"},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
            },
        })
    }

    #[test]
    fn its_pods_are_defaulted_and_checked() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&PodTemplate, template()), none);
        let wrong = with(template(), "/template/spec/containers/0/name", json!(""));
        assert_eq!(
            create(&PodTemplate, wrong),
            ["template.spec.containers[0].name: Required value"]
        );
        let mut object = template();
        PodTemplate.default(&mut object);
        assert_eq!(object["template"]["spec"]["restartPolicy"], "Always");
        let row = PodTemplate.row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(Value::Array(row), json!(["a", "c", "nginx:1", "app=web"]));
    }
}
