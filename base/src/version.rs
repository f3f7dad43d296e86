//! What this build is: its own version, the git commit, and the Kubernetes version that it speaks.

/// Corten's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Short git commit of the tree that was built, or `unknown`.
pub const GIT_COMMIT: &str = env!("CORTEN_GIT_COMMIT");
/// Version and commit in one line, for clap's `--version`.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("CORTEN_GIT_COMMIT"),
    ")"
);
/// The Kubernetes release whose API is spoken: `v1.35.0` with ours as build metadata.
pub const KUBERNETES: &str = concat!("v1.35.0+corten.", env!("CARGO_PKG_VERSION"));
