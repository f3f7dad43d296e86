//! Registry credentials out of imagePullSecrets: `.dockerconfigjson` and the older `.dockercfg`. Pure.

use base64::Engine;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::traits::PullSecret;

#[derive(Default, Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    /// base64 of `user:password`
    auth: String,
    registrytoken: String,
}

/// Credentials by registry, best match first.
#[derive(Default)]
pub(super) struct Credentials(Vec<(String, RegistryAuth)>);

impl Credentials {
    /// Reads secrets; what is malformed is passed over with a warning, as the pull may need none of it.
    pub(super) fn from_secrets(secrets: &[PullSecret]) -> Self {
        let mut found = Vec::new();
        for secret in secrets {
            let auths = match secret {
                PullSecret::DockerConfigJson(text) => {
                    serde_json::from_slice::<DockerConfig>(text).map(|c| c.auths)
                }
                PullSecret::DockerCfg(text) => serde_json::from_slice(text),
            };
            match auths {
                Ok(auths) => found.extend(
                    auths
                        .iter()
                        .filter_map(|(k, e)| Some((registry_of(k), auth(e)?))),
                ),
                Err(error) => tracing::warn!(%error, "an image pull secret is not valid"),
            }
        }
        Self(found)
    }

    /// The credentials to try for a repository, the longest match first, anonymous last.
    pub(super) fn candidates(&self, registry: &str, repository: &str) -> Vec<RegistryAuth> {
        let full = format!("{registry}/{repository}");
        let mut matching: Vec<_> = self
            .0
            .iter()
            .filter(|(key, _)| full == *key || full.starts_with(&format!("{key}/")))
            .collect();
        matching.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
        let mut out: Vec<_> = matching.into_iter().map(|(_, auth)| auth.clone()).collect();
        out.push(RegistryAuth::Anonymous);
        out
    }
}

/// Keys come with a scheme, with a path, and under Docker Hub's old address.
fn registry_of(key: &str) -> String {
    let bare = key
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    match bare.trim_end_matches("/v1").trim_end_matches("/v2") {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

fn auth(entry: &Entry) -> Option<RegistryAuth> {
    if !entry.registrytoken.is_empty() {
        return Some(RegistryAuth::Bearer(entry.registrytoken.clone()));
    }
    if !entry.username.is_empty() {
        return Some(RegistryAuth::Basic(
            entry.username.clone(),
            entry.password.clone(),
        ));
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(entry.auth.trim())
        .ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_match_wins_and_anonymous_is_last() {
        let config = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "reg.example": {"username": "a", "password": "1"},
            "reg.example/team": {"username": "b", "password": "2"}}}"#;
        let credentials =
            Credentials::from_secrets(&[PullSecret::DockerConfigJson(config.to_vec())]);
        let users = |registry: &str, repository: &str| -> Vec<String> {
            let name = |auth: RegistryAuth| match auth {
                RegistryAuth::Basic(user, _) => user,
                RegistryAuth::Bearer(token) => token,
                RegistryAuth::Anonymous => "-".to_owned(),
            };
            credentials
                .candidates(registry, repository)
                .into_iter()
                .map(name)
                .collect()
        };
        assert_eq!(users("docker.io", "library/busybox"), ["u", "-"]);
        assert_eq!(users("reg.example", "team/app"), ["b", "a", "-"]);
        assert_eq!(users("reg.example", "teams/app"), ["a", "-"]);
    }
}
