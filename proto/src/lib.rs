//! Messages, clients and servers generated from `proto/**/*.proto` by `cargo run -p xtask -- proto`.
//! Not a place for logic: conversions live with the crate that needs them.
//! Invariant: etcd's packages keep etcd's names and numbers, so that the wire is etcd v3.6's.

/// The etcd v3 API.
pub mod etcd {
    /// The descriptors of all of it, as an encoded `google.protobuf.FileDescriptorSet`.
    pub const DESCRIPTORS: &[u8] = include_bytes!("generated/etcd.fds");

    /// Keys, values and events.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        rustdoc::all,
        reason = "generated code"
    )]
    pub mod mvccpb {
        include!("generated/mvccpb.rs");
    }
    /// Users, roles and permissions.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        rustdoc::all,
        reason = "generated code"
    )]
    pub mod authpb {
        include!("generated/authpb.rs");
    }
    /// Requests, responses and services.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        rustdoc::all,
        reason = "generated code"
    )]
    pub mod etcdserverpb {
        include!("generated/etcdserverpb.rs");
    }
}

/// Corten's own protocols.
pub mod corten {
    /// The API that components speak to the API server.
    pub mod api {
        /// Version 1.
        #[allow(
            missing_docs,
            clippy::all,
            clippy::pedantic,
            rustdoc::all,
            reason = "generated code"
        )]
        pub mod v1 {
            include!("generated/corten.api.v1.rs");
        }
    }
    /// The store's log commands and peer protocol.
    pub mod store {
        /// Version 1.
        #[allow(
            missing_docs,
            clippy::all,
            clippy::pedantic,
            rustdoc::all,
            reason = "generated code"
        )]
        pub mod v1 {
            include!("generated/corten.store.v1.rs");
        }
    }
}
