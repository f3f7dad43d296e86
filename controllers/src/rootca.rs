//! Root CA: every active namespace has the ConfigMap `kube-root-ca.crt`, which pods use to trust the API server. Watches
//! Namespaces, the ConfigMaps of that name and the file; creates them, and restores what others changed. A file that has
//! become unreadable, or holds no certificate, changes nothing: pods go on trusting what they trusted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use corten_base::shutdown::Shutdown;
use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::runner::{Action, Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::serviceaccount::{active, of_namespace, of_namespaced};

/// The ConfigMap.
pub const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";

/// The controller over its caches.
pub struct RootCa {
    /// The certificates, PEM, as they are now.
    pub bundle: Bundle,
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
    /// ConfigMaps, at least those called [`NAME`].
    pub maps: Cache<ConfigMap>,
}

/// The certificates as they were last read, shared with whoever reads them anew.
pub type Bundle = Arc<ArcSwap<String>>;

/// How soon a changed file is seen.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The file with the certificates.
pub struct RootCertificates {
    path: PathBuf,
    bundle: Bundle,
}

impl RootCertificates {
    /// Reads the file for the first time.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        Ok(Self {
            path: path.to_owned(),
            bundle: Arc::new(ArcSwap::from_pointee(text)),
        })
    }

    /// What was read last.
    pub fn bundle(&self) -> Bundle {
        Arc::clone(&self.bundle)
    }

    /// Reads it again and again until shutdown, and tells when it has changed.
    pub async fn follow(self, shutdown: Shutdown, changed: impl Fn() + Send) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.look() {
                changed();
            }
        }
    }

    /// Takes over a changed file; whether there was one.
    fn look(&self) -> bool {
        match std::fs::read_to_string(&self.path) {
            Ok(text) if text == **self.bundle.load() => false,
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {
                tracing::info!(path = %self.path.display(), "the root certificates have changed");
                self.bundle.store(Arc::new(text));
                true
            }
            Ok(_) => {
                tracing::warn!(path = %self.path.display(), "the file of root certificates holds none, keeping the old ones");
                false
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the root certificates cannot be read, keeping the old ones");
                false
            }
        }
    }
}

/// What one plan depends on.
pub struct View {
    /// The namespace, unless it is gone or going.
    pub namespace: Option<Arc<Namespace>>,
    /// Its ConfigMap.
    pub map: Option<Arc<ConfigMap>>,
    /// The certificates, PEM.
    pub bundle: Arc<String>,
}

impl RootCa {
    /// Keys to wake for a changed namespace.
    pub fn of_namespace(&self, change: &Change<Namespace>) -> Vec<ObjectName> {
        of_namespace(change)
    }

    /// Keys to wake for a changed ConfigMap.
    pub fn of_map(&self, change: &Change<ConfigMap>) -> Vec<ObjectName> {
        of_namespaced(change, NAME)
    }
}

impl Controller for RootCa {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "root-ca-certificate-publisher"
    }

    fn view(&self, key: &ObjectName) -> View {
        View {
            namespace: active(&self.namespaces, key),
            map: self.maps.get(&key.name, NAME),
            bundle: self.bundle.load_full(),
        }
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let Some(namespace) = &view.namespace else {
            return Plan::nothing();
        };
        let data = BTreeMap::from([(KEY.to_owned(), view.bundle.to_string())]);
        let Some(map) = &view.map else {
            let text = "Certificates that pods of this cluster may trust to reach the API server."
                .to_owned();
            let metadata = ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: namespace.metadata.name.clone(),
                annotations: Some([(DESCRIPTION.to_owned(), text)].into()),
                ..ObjectMeta::default()
            };
            return Plan::of([Action::create(&ConfigMap {
                metadata,
                data: Some(data),
                ..ConfigMap::default()
            })]);
        };
        if map.data.as_ref() == Some(&data)
            && map.binary_data.as_ref().is_none_or(BTreeMap::is_empty)
        {
            return Plan::nothing();
        }
        let restored = ConfigMap {
            data: Some(data),
            binary_data: None,
            ..(**map).clone()
        };
        Plan::of([Action::update(&restored)])
    }
}

#[cfg(test)]
mod tests {
    use corten_client::cache::CacheOptions;
    use serde_json::{Value, json};

    use super::*;

    fn plan(maps: Vec<Value>) -> Plan {
        let parse = |value| serde_json::from_value(value).expect("config map");
        let namespace =
            serde_json::from_value(json!({"metadata": {"name": "a"}})).expect("namespace");
        let controller = RootCa {
            bundle: Arc::new(ArcSwap::from_pointee("pem".to_owned())),
            namespaces: Cache::fixed([namespace], CacheOptions::all()),
            maps: Cache::fixed(maps.into_iter().map(parse), CacheOptions::all()),
        };
        controller.plan(
            &controller.view(&ObjectName::new("", "a")),
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn a_changed_file_is_seen_and_a_broken_one_is_not() {
        const PEM: &str = "-----BEGIN CERTIFICATE-----\n";
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ca.crt");
        std::fs::write(&path, format!("{PEM}old")).expect("written");
        let certificates = RootCertificates::read(&path).expect("read");
        assert!(!certificates.look());
        std::fs::write(&path, format!("{PEM}new")).expect("written");
        assert!(certificates.look() && !certificates.look());
        std::fs::write(&path, "").expect("written");
        assert!(!certificates.look());
        std::fs::remove_file(&path).expect("removed");
        assert!(!certificates.look());
        assert_eq!(**certificates.bundle().load(), format!("{PEM}new"));
    }

    #[test]
    fn the_bundle_is_published_and_restored() {
        let map = |data: Value| json!({"metadata": {"name": NAME, "namespace": "a", "resourceVersion": "7"}, "data": data});
        assert_eq!(
            plan(vec![]).actions[0].to_string(),
            "create configmaps a/kube-root-ca.crt"
        );
        assert_eq!(plan(vec![map(json!({"ca.crt": "pem"}))]), Plan::nothing());
        let restored = plan(vec![map(json!({"ca.crt": "forged", "more": "x"}))]);
        let [Action::Update { object, .. }] = &restored.actions[..] else {
            panic!("{restored:?}")
        };
        assert_eq!(
            (&object["data"], &object["metadata"]["resourceVersion"]),
            (&json!({"ca.crt": "pem"}), &json!("7"))
        );
    }
}
