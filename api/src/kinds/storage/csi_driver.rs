//! CSIDriver: how the cluster is to treat a driver of the container storage interface.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::{Generation, immutable};
use crate::kinds::value::{Get, default_absent, object_at, remove, set};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration};

/// `csidrivers` of storage.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "storage.k8s.io",
    version: "v1",
    kind: "CSIDriver",
    list_kind: "CSIDriverList",
    resource: "csidrivers",
    singular: "csidriver",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "csidrivers",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::boolean("AttachRequired", "Whether volumes are attached first."),
        Column::boolean("PodInfoOnMount", "Whether it is told which pod mounts."),
        Column::boolean("StorageCapacity", "Whether it publishes what it has left."),
        Column::text("TokenRequests", "Audiences of the tokens it gets."),
        Column::boolean("RequiresRepublish", "Whether it is called again and again."),
        Column::text("Modes", "Lives that its volumes can have."),
        Column::AGE,
    ],
    strategy: &CsiDriver,
};

/// Ten minutes.
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const UPDATE_PERIOD_SECONDS_MIN: i64 = 10;

struct CsiDriver;

static RULES: Rules = Rules {
    generation: Generation::Spec,
    unconditional_update: false,
    ..Rules::CLUSTER
};

impl Strategy for CsiDriver {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        default_absent(spec, "attachRequired", true);
        for key in [
            "podInfoOnMount",
            "storageCapacity",
            "requiresRepublish",
            "seLinuxMount",
        ] {
            default_absent(spec, key, false);
        }
        default_absent(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if spec.is_empty_at("volumeLifecycleModes") {
            set(spec, "volumeLifecycleModes", json!(["Persistent"]));
        }
    }

    fn init(&self, object: &mut Value) {
        // Counting begins with the first change.
        if let Some(meta) = object_at(object, "metadata") {
            remove(meta, "generation");
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate_spec(object.at("spec"), errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (new, old) = (new.at("spec"), old.at("spec"));
        // Upstream's path, which is not the name of the field.
        for (key, path) in [
            ("attachRequired", "spec.attachedRequired"),
            ("volumeLifecycleModes", "spec.volumeLifecycleModes"),
        ] {
            immutable(new.at(key), old.at(key), &Path::new(path), errors);
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let spec = object.at("spec");
        if spec.is_empty_at("tokenRequests") || spec.has("serviceAccountTokenInSecrets") {
            return Vec::new();
        }
        vec![
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent \
             possible logging of tokens in volume attributes"
                .to_owned(),
        ]
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (meta, spec) = (object.at("metadata"), object.at("spec"));
        let texts = |list: Vec<&str>| list.join(",");
        let audiences = spec.opt("tokenRequests").map(|_| {
            let requests = spec.list("tokenRequests").iter();
            texts(requests.map(|request| request.text("audience")).collect())
        });
        let modes = spec.list("volumeLifecycleModes").iter();
        let modes = texts(modes.filter_map(Value::as_str).collect());
        vec![
            meta.text("name").into(),
            spec.at("attachRequired").as_bool().unwrap_or(true).into(),
            spec.flag("podInfoOnMount").into(),
            spec.flag("storageCapacity").into(),
            audiences.unwrap_or_else(|| "<unset>".to_owned()).into(),
            spec.flag("requiresRepublish").into(),
            match modes.is_empty() {
                true => "<none>".into(),
                false => modes.into(),
            },
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn validate_spec(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    if let Some(policy) = spec.opt_text("fsGroupPolicy") {
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        if !policies.contains(&policy) {
            errors.not_supported(&path.child("fsGroupPolicy"), policy, &policies);
        }
    }
    validate_token_requests(spec, &path.child("tokenRequests"), errors);
    let modes = ["Persistent", "Ephemeral"];
    for mode in spec.list("volumeLifecycleModes") {
        let mode = mode.as_str().unwrap_or("");
        if !modes.contains(&mode) {
            errors.not_supported(&path.child("volumeLifecycleModes"), mode, &modes);
        }
    }
    let period = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(seconds) = spec.int(period)
        && seconds < UPDATE_PERIOD_SECONDS_MIN
    {
        let detail = "must be greater than or equal to 10 seconds";
        errors.invalid(&path.child(period), seconds, detail);
    }
    let in_secrets = "serviceAccountTokenInSecrets";
    if spec.has(in_secrets) && spec.is_empty_at("tokenRequests") {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&path.child(in_secrets), spec.at(in_secrets), detail);
    }
}

fn validate_token_requests(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let requests = spec.list("tokenRequests");
    for (i, request) in requests.iter().enumerate() {
        let at = path.index(i);
        let audience = request.text("audience");
        if requests[..i].iter().any(|r| r.text("audience") == audience) {
            errors.duplicate(&at.child("audience"), audience);
            continue;
        }
        let Some(seconds) = request.int("expirationSeconds") else {
            continue;
        };
        let detail = match seconds {
            ..TOKEN_SECONDS_MIN => "may not specify a duration less than 10 minutes",
            TOKEN_SECONDS_MIN..=TOKEN_SECONDS_MAX => continue,
            _ => "may not specify a duration larger than 2^32 seconds",
        };
        errors.invalid(&at.child("expirationSeconds"), seconds, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn driver(spec: Value) -> Value {
        json!({"metadata": {"name": "csi.example.com"}, "spec": spec})
    }

    #[test]
    fn defaults_and_row() {
        let mut object = driver(json!({}));
        CsiDriver.default(&mut object);
        assert_eq!(
            object["spec"],
            json!({"attachRequired": true, "podInfoOnMount": false, "storageCapacity": false, "requiresRepublish": false,
                   "seLinuxMount": false, "fsGroupPolicy": "ReadWriteOnceWithFSType",
                   "volumeLifecycleModes": ["Persistent"]})
        );
        let row = |object: &Value| Value::Array(CsiDriver.row(object, Timestamp::UNIX_EPOCH));
        let cells = json!([
            "csi.example.com",
            true,
            false,
            false,
            "<unset>",
            false,
            "Persistent",
            "<unknown>"
        ]);
        assert_eq!(row(&object), cells);
        object["spec"]["tokenRequests"] = json!([{"audience": "a"}, {"audience": "b"}]);
        assert_eq!(row(&object)[4], "a,b");
        assert_eq!(CsiDriver.warnings(&object).len(), 1);
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&CsiDriver, driver(json!({}))), none);
        let cases = [
            (
                json!({"fsGroupPolicy": "All"}),
                "spec.fsGroupPolicy: Unsupported value: \"All\": supported values: \"File\", \"None\", \
                 \"ReadWriteOnceWithFSType\"",
            ),
            (
                json!({"tokenRequests": [{"audience": "a"}, {"audience": "a"}]}),
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            ),
            (
                json!({"tokenRequests": [{"audience": "a", "expirationSeconds": 599}]}),
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 \
                 minutes",
            ),
            (
                json!({"volumeLifecycleModes": ["Eternal"]}),
                "spec.volumeLifecycleModes: Unsupported value: \"Eternal\": supported values: \"Persistent\", \
                 \"Ephemeral\"",
            ),
            (
                json!({"serviceAccountTokenInSecrets": true}),
                "spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no \
                 tokenRequests are specified",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(create(&CsiDriver, driver(spec)), [expected]);
        }
    }

    #[test]
    fn attaching_stays_and_changes_are_counted() {
        let old = driver(json!({}));
        let new = with(old.clone(), "/spec/attachRequired", json!(false));
        assert_eq!(
            update(&CsiDriver, new, old.clone()),
            ["spec.attachedRequired: Invalid value: false: field is immutable"]
        );
        let mut made = old.clone();
        CsiDriver.prepare_for_create(&mut made);
        assert_eq!(made["metadata"].get("generation"), None);
        let mut new = with(old.clone(), "/spec/podInfoOnMount", json!(true));
        CsiDriver.prepare_for_update(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 1);
    }
}
