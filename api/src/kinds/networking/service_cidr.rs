//! ServiceCIDR: a range from which Services get their addresses.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::GROUP;
use crate::kinds::addresses::{sloppy_range, validate_range};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::keep_client_metadata;
use crate::kinds::value::{Get, object_at};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration,
};

/// `servicecidrs` of networking.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "ServiceCIDR",
    list_kind: "ServiceCIDRList",
    resource: "servicecidrs",
    singular: "servicecidr",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "servicecidrs",
    subresources: &[Subresource::status("ServiceCIDR")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("CIDRs", "The range, or one of each IP family."),
        Column::AGE,
    ],
    strategy: &ServiceCidr,
};

const IMMUTABLE: &str = "field is immutable";

struct ServiceCidr;

/// The main resource may write the status here, as upstream lets it.
static RULES: Rules = Rules::CLUSTER;

impl Strategy for ServiceCidr {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        object_at(object, "status");
    }

    fn carry_over_status(&self, new: &mut Value, old: &Value) {
        keep_client_metadata(new, old);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        validate_ranges(object.at("spec"), errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::new("spec.cidrs");
        let after = new.at("spec").list("cidrs");
        let before = old.at("spec").list("cidrs");
        let grows = before.len() == 1 && after.len() == 2;
        if before.len() != after.len() && !grows {
            errors.invalid(&path, new.at("spec").at("cidrs"), IMMUTABLE);
            return;
        }
        for (i, (after, before)) in after.iter().zip(before).enumerate() {
            if after != before {
                errors.invalid(&path.index(i), after, IMMUTABLE);
            }
        }
        // The one change that is allowed: the range of the other family comes to it.
        if grows {
            validate_ranges(new.at("spec"), errors);
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let ranges: Vec<&str> = texts(object.at("spec").list("cidrs")).collect();
        vec![
            meta.text("name").into(),
            ranges.join(",").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn texts(ranges: &[Value]) -> impl Iterator<Item = &str> {
    ranges.iter().map(|range| range.as_str().unwrap_or(""))
}

fn validate_ranges(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec.cidrs");
    let ranges = spec.list("cidrs");
    if ranges.is_empty() {
        errors.required(&path, "at least one CIDR required");
        return;
    }
    if ranges.len() > 2 {
        let shown = json!({"CIDRs": ranges});
        errors.invalid(&path, &shown, "may only hold up to 2 values");
        return;
    }
    for (i, range) in texts(ranges).enumerate() {
        validate_range(range, &path.index(i), errors);
    }
    let families: Vec<bool> = texts(ranges)
        .filter_map(sloppy_range)
        .map(|range| range.addr().is_ipv4())
        .collect();
    if let [first, second] = families[..]
        && first == second
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, spec.at("cidrs"), detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn ranges(cidrs: &[&str]) -> Value {
        json!({"metadata": {"name": "a"}, "spec": {"cidrs": cidrs}})
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&ServiceCidr, ranges(&["10.0.0.0/16"])), none);
        let both = ["10.0.0.0/16", "fd00::/112"];
        assert_eq!(create(&ServiceCidr, ranges(&both)), none);
        let cases: [(&[&str], &str); 4] = [
            (
                &[],
                "spec.cidrs: Required value: at least one CIDR required",
            ),
            (
                &["10.0.0.1/16"],
                "spec.cidrs[0]: Invalid value: \"10.0.0.1/16\": must not have bits set beyond the prefix length",
            ),
            (
                &["10.0.0.0/16", "10.1.0.0/16"],
                "spec.cidrs: Invalid value: [\"10.0.0.0/16\",\"10.1.0.0/16\"]: may specify no more than one IP for each \
                 IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            ),
            (
                &["a", "b", "c"],
                "spec.cidrs: Invalid value: {\"CIDRs\":[\"a\",\"b\",\"c\"]}: may only hold up to 2 values",
            ),
        ];
        for (cidrs, expected) in cases {
            assert_eq!(create(&ServiceCidr, ranges(cidrs)), [expected]);
        }
    }

    #[test]
    fn ranges_stay_but_may_become_two() {
        let none: Vec<String> = vec![];
        let old = || ranges(&["10.0.0.0/16"]);
        let both = ranges(&["10.0.0.0/16", "fd00::/112"]);
        assert_eq!(update(&ServiceCidr, both.clone(), old()), none);
        assert_eq!(
            update(&ServiceCidr, ranges(&["10.1.0.0/16"]), old()),
            ["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"]
        );
        assert_eq!(
            update(&ServiceCidr, old(), both),
            ["spec.cidrs: Invalid value: [\"10.0.0.0/16\"]: field is immutable"]
        );
    }

    #[test]
    fn status_keeps_all_else() {
        let old = with(
            ranges(&["10.0.0.0/16"]),
            "/metadata/labels",
            json!({"a": "b"}),
        );
        let mut new = with(old.clone(), "/metadata/labels", json!({}));
        new["spec"] = json!({});
        new["status"] = json!({"conditions": [{"type": "Ready"}]});
        ServiceCidr.prepare_for_status_update(&mut new, &old);
        assert_eq!(new["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(new["spec"], old["spec"]);
        assert_eq!(new["status"]["conditions"][0]["type"], "Ready");
    }

    #[test]
    fn row() {
        let row = ServiceCidr.row(
            &ranges(&["10.0.0.0/16", "fd00::/112"]),
            Timestamp::UNIX_EPOCH,
        );
        let expected = ["a", "10.0.0.0/16,fd00::/112", "<unknown>"];
        assert_eq!(row, expected.map(Value::from));
    }
}
