//! The table of crate edges: which of our crates may depend on which. It is the architecture in one page; a new edge is a
//! decision record first and a line here second. The manifests are held to it, the code cannot go around it.

/// One crate with what it may use, in production and in tests.
pub(crate) struct Edges {
    /// Package name.
    pub(crate) name: &'static str,
    /// Allowed `[dependencies]` and `[build-dependencies]` among our own crates.
    pub(crate) normal: &'static [&'static str],
    /// Further ones allowed in `[dev-dependencies]`.
    pub(crate) dev: &'static [&'static str],
}

const COMPONENT: &[&str] = &["corten-base", "corten-proto", "corten-api", "corten-client"];
const COMPONENT_TESTS: &[&str] = &["corten-apiserver", "corten-store"];

/// Every crate of the workspace, bottom up.
pub(crate) const TABLE: &[Edges] = &[
    Edges {
        name: "corten-base",
        normal: &[],
        dev: &[],
    },
    Edges {
        name: "corten-proto",
        normal: &[],
        dev: &[],
    },
    Edges {
        name: "corten-api",
        normal: &[],
        dev: &[],
    },
    Edges {
        name: "corten-client",
        normal: &["corten-base", "corten-proto", "corten-api"],
        dev: COMPONENT_TESTS,
    },
    // The store knows keys, bytes and revisions, and no Kubernetes kind: so never corten-api.
    Edges {
        name: "corten-store-core",
        normal: &["corten-proto"],
        dev: &[],
    },
    // In the place of a crate of this name that openraft uses: docs/decisions/0009.
    Edges {
        name: "base2histogram",
        normal: &[],
        dev: &[],
    },
    Edges {
        name: "corten-store",
        normal: &["corten-base", "corten-proto", "corten-store-core"],
        dev: &[],
    },
    // The apiserver reaches the store only through its gRPC API; tests start one in process.
    Edges {
        name: "corten-apiserver",
        normal: &["corten-base", "corten-proto", "corten-api"],
        dev: &["corten-store", "corten-client"],
    },
    Edges {
        name: "corten-scheduler",
        normal: COMPONENT,
        dev: COMPONENT_TESTS,
    },
    Edges {
        name: "corten-controllers",
        normal: COMPONENT,
        dev: COMPONENT_TESTS,
    },
    Edges {
        name: "corten-node-agent",
        normal: COMPONENT,
        dev: COMPONENT_TESTS,
    },
    Edges {
        name: "corten-proxy",
        normal: COMPONENT,
        dev: COMPONENT_TESTS,
    },
    Edges {
        name: "corten",
        normal: &[
            "corten-base",
            "corten-proto",
            "corten-api",
            "corten-client",
            "corten-store",
            "corten-apiserver",
            "corten-scheduler",
            "corten-controllers",
            "corten-node-agent",
            "corten-proxy",
        ],
        dev: &[],
    },
    // Black-box tests: they drive binaries, and share only the launcher's lab code.
    Edges {
        name: "corten-e2e",
        normal: &["corten"],
        dev: &["corten", "corten-base", "corten-proto"],
    },
    Edges {
        name: "xtask",
        normal: &[],
        dev: &[],
    },
];
