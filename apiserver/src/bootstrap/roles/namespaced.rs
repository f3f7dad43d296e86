//! The default Roles and RoleBindings of `kube-system` and `kube-public`, as data.
//!
//! Invariant: every binding names a Role of its namespace, which a test shows.

/// A Role: namespace, name, and its rules as in the parent.
pub(super) const ROLES: &[(&str, &str, &str)] = &[
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        "get list watch | core | configmaps | extension-apiserver-authentication",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        LOCKING,
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        LOCKING,
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "get list watch | core | secrets",
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "create get list watch | core | configmaps",
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "delete get list watch | core | secrets
         create patch update | core,events.k8s.io | events",
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "get list watch | core | configmaps
         update | core | configmaps | cluster-info
         create patch update | core,events.k8s.io | events",
    ),
];

const LOCKING: &str = "create get list update watch | coordination.k8s.io | leases leasecandidates";

/// A RoleBinding: namespace, name, its Role, and the subjects as in the parent.
pub(super) const BINDINGS: &[(&str, &str, &str, &[&str])] = &[
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[
            "User system:kube-controller-manager",
            "User system:kube-scheduler",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            "User system:kube-controller-manager",
            "ServiceAccount kube-system/kube-controller-manager",
            "ServiceAccount kube-system/leader-election-controller",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[
            "User system:kube-scheduler",
            "ServiceAccount kube-system/kube-scheduler",
        ],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["ServiceAccount kube-system/bootstrap-signer"],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &["ServiceAccount kube-system/cloud-provider"],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &["ServiceAccount kube-system/token-cleaner"],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["ServiceAccount kube-system/bootstrap-signer"],
    ),
];
