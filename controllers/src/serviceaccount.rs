//! ServiceAccount: every active namespace has the account `default`, which pods get that name none. Watches Namespaces and
//! the accounts of that name; creates accounts.

use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::object::Cached;
use corten_client::runner::{Action, Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The account.
pub const NAME: &str = "default";

/// The controller over its caches.
pub struct ServiceAccounts {
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
    /// Accounts, at least those called [`NAME`].
    pub accounts: Cache<ServiceAccount>,
}

/// What one plan depends on.
pub struct View {
    /// The namespace, unless it is gone or going.
    pub namespace: Option<Arc<Namespace>>,
    /// Whether the account is there.
    pub exists: bool,
}

/// The key of a namespace.
pub(crate) fn of_namespace(change: &Change<Namespace>) -> Vec<ObjectName> {
    vec![ObjectName::of(&**change.object())]
}

/// The key of the namespace of an object called `name`.
pub(crate) fn of_namespaced<T: Cached>(change: &Change<T>, name: &str) -> Vec<ObjectName> {
    let meta = change.object().meta();
    let ours = meta.name.as_deref() == Some(name);
    meta.namespace
        .clone()
        .filter(|_| ours)
        .map(|namespace| ObjectName::new("", namespace))
        .into_iter()
        .collect()
}

/// A namespace that may get new content.
pub(crate) fn active(namespaces: &Cache<Namespace>, key: &ObjectName) -> Option<Arc<Namespace>> {
    namespaces
        .get_named(key)
        .filter(|namespace| namespace.metadata.deletion_timestamp.is_none())
}

impl ServiceAccounts {
    /// Keys to wake for a changed namespace.
    pub fn of_namespace(&self, change: &Change<Namespace>) -> Vec<ObjectName> {
        of_namespace(change)
    }

    /// Keys to wake for a changed account.
    pub fn of_account(&self, change: &Change<ServiceAccount>) -> Vec<ObjectName> {
        of_namespaced(change, NAME)
    }
}

impl Controller for ServiceAccounts {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "serviceaccount-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        View {
            namespace: active(&self.namespaces, key),
            exists: self.accounts.get(&key.name, NAME).is_some(),
        }
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let Some(namespace) = view.namespace.as_ref().filter(|_| !view.exists) else {
            return Plan::nothing();
        };
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: namespace.metadata.name.clone(),
            ..ObjectMeta::default()
        };
        Plan::of([Action::create(&ServiceAccount {
            metadata,
            ..ServiceAccount::default()
        })])
    }
}

#[cfg(test)]
mod tests {
    use corten_client::cache::CacheOptions;
    use serde_json::{Value, json};

    use super::*;

    fn plan(namespace: Value, accounts: Vec<Value>) -> Plan {
        let parse = |value| serde_json::from_value(value).expect("account");
        let controller = ServiceAccounts {
            namespaces: Cache::fixed(
                [serde_json::from_value(namespace).expect("namespace")],
                CacheOptions::all(),
            ),
            accounts: Cache::fixed(accounts.into_iter().map(parse), CacheOptions::all()),
        };
        controller.plan(
            &controller.view(&ObjectName::new("", "a")),
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn active_namespaces_have_the_account() {
        let active = json!({"metadata": {"name": "a"}});
        let going = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let account = |name: &str| json!({"metadata": {"name": name, "namespace": "a"}});
        let created = plan(active.clone(), vec![account("other")]);
        assert_eq!(
            created.actions[0].to_string(),
            "create serviceaccounts a/default"
        );
        assert_eq!(plan(active, vec![account("default")]), Plan::nothing());
        assert_eq!(plan(going, vec![]), Plan::nothing());
    }
}
