//! What the generated configuration says for given pods.

use serde_json::{Value, json};

use super::*;

fn check(pod_spec: Value, container: Value, image: &ImageConfig) -> Result<Value, SpecError> {
    let mut spec = pod_spec;
    spec["containers"] = json!([container]);
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod");
    let container = pod.spec.as_ref().expect("spec").containers[0].clone();
    let host = HostFacts {
        bounding: CapabilityMask((1 << 41) - 1),
        oom_score_adj_floor: 0,
        nofile_hard: 20_000,
        memory_bytes: 1 << 34,
        cgroup_v2: false,
        seccomp_default: false,
    };
    let namespaces = SharedNamespaces {
        network: Some("/n".into()),
        ipc: None,
        uts: Some("/u".into()),
    };
    oci_config(&ContainerInputs {
        pod: &pod,
        container: &container,
        image,
        env: &[("A".to_owned(), "1".to_owned())],
        user: &ResolvedUser {
            uid: 1,
            gid: 2,
            additional_gids: vec![3],
        },
        volumes: &[],
        files: &PodFiles::default(),
        termination_log: "/t".into(),
        namespaces: &namespaces,
        pid_namespace: PidNamespace::Own,
        hostname: "h",
        cgroup_path: "/corten/podx/c",
        host: &host,
        devices: &[],
        localhost_seccomp: None,
    })
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["cmd".to_owned()],
        env: vec!["A=image".to_owned(), "B=image".to_owned()],
        working_dir: "/w".to_owned(),
        ..ImageConfig::default()
    }
}

#[test]
fn command_matrix() {
    let args = |container: Value| {
        check(json!({}), container, &image()).map(|config| config["process"]["args"].clone())
    };
    assert_eq!(args(json!({"name": "c"})), Ok(json!(["/entry", "cmd"])));
    assert_eq!(
        args(json!({"name": "c", "args": ["x$(A)"]})),
        Ok(json!(["/entry", "x1"]))
    );
    assert_eq!(
        args(json!({"name": "c", "command": ["/c"]})),
        Ok(json!(["/c"]))
    );
    assert_eq!(
        args(json!({"name": "c", "command": ["/c"], "args": ["$(Z)"]})),
        Ok(json!(["/c", "$(Z)"]))
    );
    assert!(check(json!({}), json!({"name": "c"}), &ImageConfig::default()).is_err());
}

#[test]
fn environment_and_identity() {
    let config = check(json!({}), json!({"name": "c"}), &image()).expect("a configuration");
    let process = &config["process"];
    assert_eq!(
        process["env"],
        json!([
            format!("PATH={DEFAULT_PATH}"),
            "HOSTNAME=h",
            "A=1",
            "B=image"
        ])
    );
    assert_eq!(
        process["user"],
        json!({"uid": 1, "gid": 2, "additionalGids": [3]})
    );
    assert_eq!(
        (&process["cwd"], &process["oomScoreAdj"]),
        (&json!("/w"), &json!(1000))
    );
    assert_eq!(process["rlimits"][0]["hard"], json!(20_000));
    let kinds: Vec<_> = config["linux"]["namespaces"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|n| n["type"].as_str())
        .collect();
    assert_eq!(kinds, ["mount", "network", "uts", "pid"]);
}

#[test]
fn security_context() {
    let of = |context: Value| {
        check(
            json!({}),
            json!({"name": "c", "securityContext": context}),
            &image(),
        )
        .expect("a configuration")
    };
    let plain = of(json!({}));
    assert!(plain["linux"].get("seccomp").is_none());
    assert_eq!(plain["process"]["noNewPrivileges"], json!(false));
    let tight = of(
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]}}),
    );
    assert_eq!(tight["process"]["noNewPrivileges"], json!(true));
    assert_eq!(tight["root"]["readonly"], json!(true));
    assert_eq!(
        tight["linux"]["seccomp"]["defaultAction"],
        json!("SCMP_ACT_ERRNO")
    );
    assert_eq!(tight["process"]["capabilities"]["bounding"], json!([]));
    let privileged = of(json!({"privileged": true}));
    assert!(privileged["linux"].get("maskedPaths").is_none());
    assert_eq!(
        privileged["process"]["capabilities"]["bounding"]
            .as_array()
            .expect("a list")
            .len(),
        41
    );
}

#[test]
fn resource_numbers() {
    let container = json!({"name": "c", "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "100m"}}});
    let config = check(json!({}), container, &image()).expect("a configuration");
    let resources = &config["linux"]["resources"];
    assert_eq!(
        resources["cpu"],
        json!({"shares": 102, "period": 100_000, "quota": 20_000})
    );
    assert_eq!(resources["memory"], json!({"limit": 67_108_864}));
}
