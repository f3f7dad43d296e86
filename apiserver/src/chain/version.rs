//! `/version`: the Kubernetes release whose API is spoken, in upstream's shape.
//!
//! Clients decide by major and minor what they may use. Invariant: it names the release that the schemas were
//! generated from.

use corten_base::version;
use serde_json::{Value, json};

/// The document.
pub(super) fn document() -> Value {
    let (major, minor) = numbers(version::KUBERNETES);
    json!({
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": minor.parse::<u32>().map_or_else(|_| minor.to_owned(), |minor| (minor - 1).to_string()),
        "gitVersion": version::KUBERNETES,
        "gitCommit": version::GIT_COMMIT,
        "gitTreeState": "clean",
        // Builds are reproducible, so there is no date of a build.
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": platform(),
    })
}

fn numbers(version: &str) -> (&str, &str) {
    let mut parts = version.trim_start_matches('v').split('.');
    (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    )
}

/// As Go names it.
fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}
