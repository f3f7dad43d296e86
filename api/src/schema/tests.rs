//! Tests of the field table: samples of what it must say. Invariant: every reference in it resolves.

use super::*;

fn field(definition: &str, name: &str) -> &'static Field {
    by_name(definition)
        .and_then(|ty| ty.field(name))
        .unwrap_or_else(|| panic!("{definition}.{name}"))
}

#[test]
fn the_table_has_every_type() {
    assert!(types().len() > 600, "{}", types().len());
    let deployment =
        lookup(&GroupVersionKind::from_static("apps", "v1", "Deployment")).expect("known");
    assert_eq!(deployment.name, "io.k8s.api.apps.v1.Deployment");
    assert_eq!(
        (deployment.go_name(), deployment.go_type()),
        ("Deployment", "v1.Deployment")
    );
    assert!(
        lookup(&GroupVersionKind::from_static(
            "apps",
            "v1",
            "DeploymentList"
        ))
        .is_some()
    );
    assert!(
        lookup(&GroupVersionKind::from_static(
            "apps",
            "v1",
            "DeleteOptions"
        ))
        .is_some()
    );
    assert!(lookup(&GroupVersionKind::from_static("", "v1", "Nothing")).is_none());
}

#[test]
fn every_type_is_whole() {
    for ty in types() {
        for field in ty.fields() {
            field.shape.object();
            assert!(
                !matches!(&field.list, ListKind::Map(keys) if keys.is_empty()),
                "{}.{}",
                ty.name,
                field.name
            );
            let standalone = matches!(field.name, "apiVersion" | "kind" | "$ref" | "$schema")
                || ty.name.ends_with(".version.Info");
            assert!(
                field.tag > 0 || standalone,
                "{}.{} has no tag",
                ty.name,
                field.name
            );
        }
        let sorted = ty
            .fields()
            .windows(2)
            .all(|pair| pair[0].name < pair[1].name);
        assert!(sorted, "{}", ty.name);
    }
}

#[test]
fn samples() {
    let ports = field("io.k8s.api.core.v1.Container", "ports");
    assert_eq!(ports.list, ListKind::Map(vec!["containerPort", "protocol"]));
    assert_eq!(
        (ports.merge_key, ports.strategy.merge),
        (Some("containerPort"), true)
    );
    let protocol = field("io.k8s.api.core.v1.ContainerPort", "protocol");
    assert_eq!(protocol.default, Some("\"TCP\""));
    let replicas = field("io.k8s.api.apps.v1.DeploymentSpec", "replicas");
    assert_eq!(
        (&replicas.shape, replicas.tag, replicas.required),
        (&Shape::Int32, 1, false)
    );
    assert!(field("io.k8s.api.apps.v1.DeploymentSpec", "selector").required);
    assert!(
        field("io.k8s.api.apps.v1.DeploymentSpec", "strategy")
            .strategy
            .retain_keys
    );
    let volumes = field("io.k8s.api.core.v1.PodSpec", "volumes");
    assert_eq!(
        (volumes.merge_key, volumes.strategy.retain_keys),
        (Some("name"), true)
    );
    let host_path = field("io.k8s.api.core.v1.Volume", "hostPath");
    assert_eq!(
        (host_path.tag, host_path.inlined.as_slice()),
        (1, &[(2, "VolumeSource")][..])
    );
    assert_eq!(
        field("io.k8s.api.core.v1.Secret", "data").shape,
        Shape::Map(Box::new(Shape::Bytes))
    );
    assert!(
        field("io.k8s.api.core.v1.Service", "metadata")
            .shape
            .object()
            .is_some()
    );
    let selector = by_name("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").expect("known");
    assert!(selector.atomic);
    assert_eq!(
        field("io.k8s.api.core.v1.PodStatus", "podIPs").merge_key,
        Some("ip")
    );
}
