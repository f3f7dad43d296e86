//! Volumes over a source that the test holds: content, updates that readers never see half of, modes, optional sources,
//! and the texts of refusals.

use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::traits::SourceError;

#[derive(Default)]
struct Objects {
    maps: Mutex<BTreeMap<String, ConfigMap>>,
}

#[async_trait]
impl ObjectSource for Objects {
    async fn runtime_handler(&self, class: &str) -> Result<String, SourceError> {
        Err(SourceError::NotFound {
            kind: "runtimeclass",
            name: class.to_owned(),
        })
    }

    async fn config_map(
        &self,
        _namespace: &str,
        name: &str,
    ) -> Result<Arc<ConfigMap>, SourceError> {
        let found = self.maps.lock().get(name).cloned();
        found.map(Arc::new).ok_or_else(|| SourceError::NotFound {
            kind: "configmap",
            name: name.to_owned(),
        })
    }

    async fn secret(&self, _namespace: &str, name: &str) -> Result<Arc<Secret>, SourceError> {
        Err(SourceError::NotFound {
            kind: "secret",
            name: name.to_owned(),
        })
    }

    async fn service_account_token(
        &self,
        _pod: &PodRef,
        account: &str,
        _audiences: &[String],
        seconds: i64,
    ) -> Result<TokenRequest, SourceError> {
        let status = json!({"token": format!("token-of-{account}"), "expirationTimestamp": "2030-01-01T00:00:00Z"});
        let request = json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": seconds}, "status": status});
        Ok(serde_json::from_value(request).expect("token request"))
    }
}

fn request(dir: &Path, volumes: serde_json::Value) -> VolumeRequest {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"b": "2", "a": "1\"x"}},
        "spec": {"containers": [], "volumes": volumes},
    }))
    .expect("pod");
    VolumeRequest {
        pod_ref: PodRef::of(&pod),
        pod: Arc::new(pod),
        pod_dir: dir.to_owned(),
        pod_ips: Vec::new(),
        host_ips: Vec::new(),
        node_name: "n".to_owned(),
        node_allocatable: BTreeMap::new(),
    }
}

fn map(data: serde_json::Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": "m"}, "data": data})).expect("map")
}

#[tokio::test]
async fn a_config_map_is_shown_and_updated_whole() {
    let dir = tempfile::tempdir().expect("temp dir");
    let objects = Arc::new(Objects::default());
    objects
        .maps
        .lock()
        .insert("m".to_owned(), map(json!({"a": "1", "gone": "x"})));
    let volumes = Volumes::new(Arc::clone(&objects) as Arc<dyn ObjectSource>);
    let request = request(
        dir.path(),
        json!([{"name": "v", "configMap": {"name": "m", "defaultMode": 0o400}}]),
    );
    let prepared = volumes.setup(&request).await.expect("setup");
    let root = &prepared["v"].host_path;
    assert!(prepared["v"].read_only);
    assert_eq!(std::fs::read_to_string(root.join("a")).expect("file"), "1");
    assert_eq!(
        std::fs::metadata(root.join("a"))
            .expect("stat")
            .permissions()
            .mode()
            & 0o777,
        0o400
    );
    let first = std::fs::read_link(root.join("..data")).expect("version");
    volumes.refresh(&request).await.expect("refresh");
    assert_eq!(
        std::fs::read_link(root.join("..data")).expect("version"),
        first,
        "nothing changed"
    );
    objects
        .maps
        .lock()
        .insert("m".to_owned(), map(json!({"a": "2", "new": "y"})));
    volumes.refresh(&request).await.expect("refresh");
    assert_eq!(std::fs::read_to_string(root.join("a")).expect("file"), "2");
    assert_eq!(
        std::fs::read_to_string(root.join("new")).expect("file"),
        "y"
    );
    assert!(root.join("gone").symlink_metadata().is_err() && !root.join(first).exists());
    volumes
        .teardown(&request.pod_ref, dir.path())
        .await
        .expect("teardown");
    assert!(!dir.path().join("volumes").exists());
}

#[tokio::test]
async fn downward_labels_and_tokens_are_projected_into_memory() {
    let dir = tempfile::tempdir().expect("temp dir");
    let volumes = Volumes::new(Arc::new(Objects::default()));
    let sources = json!([
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"configMap": {"name": "absent", "optional": true}},
    ]);
    let request = request(
        dir.path(),
        json!([{"name": "v", "projected": {"sources": sources}}]),
    );
    let prepared = volumes.setup(&request).await.expect("setup");
    let root = &prepared["v"].host_path;
    assert_eq!(
        std::fs::read_to_string(root.join("token")).expect("token"),
        "token-of-default"
    );
    assert_eq!(
        std::fs::read_to_string(root.join("labels")).expect("labels"),
        "a=\"1\\\"x\"\nb=\"2\""
    );
    assert!(is_mount_point(root), "secrets never touch the disk");
    volumes
        .teardown(&request.pod_ref, dir.path())
        .await
        .expect("teardown");
}

#[tokio::test]
async fn what_is_missing_or_not_built_says_so() {
    let dir = tempfile::tempdir().expect("temp dir");
    let volumes = Volumes::new(Arc::new(Objects::default()));
    for (volume, expected) in [
        (
            json!({"name": "v", "secret": {"secretName": "s"}}),
            "secret \"s\" not found",
        ),
        (
            json!({"name": "v", "nfs": {"server": "x", "path": "/"}}),
            "volume type \"nfs\" is not supported",
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/proc/version", "type": "Directory"}}),
            "is not a directory",
        ),
    ] {
        let error = volumes
            .setup(&request(dir.path(), json!([volume])))
            .await
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains(expected)
                && error.starts_with("MountVolume.SetUp failed for volume \"v\" : "),
            "{error}"
        );
    }
}

#[tokio::test]
async fn one_missing_object_does_not_stop_the_renewal_of_the_others() {
    let dir = tempfile::tempdir().expect("temp dir");
    let objects = Arc::new(Objects::default());
    let put = |name: &str, value: &str| {
        let map = map(json!({"key": value}));
        objects.maps.lock().insert(name.to_owned(), map);
    };
    put("a", "1");
    put("b", "1");
    let volumes = Volumes::new(Arc::clone(&objects) as Arc<dyn ObjectSource>);
    let request = request(
        dir.path(),
        json!([{"name": "first", "configMap": {"name": "a"}}, {"name": "second", "configMap": {"name": "b"}}]),
    );
    let prepared = volumes.setup(&request).await.expect("setup");
    objects.maps.lock().remove("a");
    put("b", "2");
    let error = volumes.refresh(&request).await.expect_err("one is gone");
    assert_eq!(
        error.to_string(),
        "MountVolume.SetUp failed for volume \"first\" : configmap \"a\" not found"
    );
    let renewed = prepared["second"].host_path.join("key");
    assert_eq!(std::fs::read_to_string(renewed).expect("file"), "2");
}

#[tokio::test]
async fn an_agent_restart_keeps_the_mode_that_a_pod_gave_its_empty_dir() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut request = request(
        dir.path(),
        json!([{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]),
    );
    let access = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(path).expect("stat");
        (meta.mode() & 0o7777, meta.gid())
    };
    for (group, fresh) in [(None, (0o777, 0)), (Some(2000), (0o2777, 2000))] {
        let pod = Arc::make_mut(&mut request.pod);
        pod.spec.as_mut().expect("spec").security_context =
            serde_json::from_value(json!({"fsGroup": group})).expect("context");
        for name in ["disk", "memory"] {
            let volumes = Volumes::new(Arc::new(Objects::default()));
            let path = volumes.setup(&request).await.expect("setup")[name]
                .host_path
                .clone();
            assert_eq!(access(&path), fresh, "{name}");
            set_mode(&path, 0o700).expect("the pod's own choice");
            std::os::unix::fs::chown(&path, Some(1000), Some(1000)).expect("chown");
            let restarted = Volumes::new(Arc::new(Objects::default()));
            restarted.setup(&request).await.expect("setup again");
            assert_eq!(access(&path), (0o700, 1000), "{name}");
        }
        let volumes = Volumes::new(Arc::new(Objects::default()));
        volumes
            .teardown(&request.pod_ref, dir.path())
            .await
            .expect("teardown");
    }
}
