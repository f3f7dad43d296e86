//! One pull: ask the hosts in turn, manifest and configuration first, then the layers that are not here yet, each streamed
//! to disk, checked, and unpacked while the next is on its way.

use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::auth::Credentials;
use super::registries::{self, Registries};
use super::store::Store;
use super::unpack::unpack;
use crate::traits::{ImageConfig, ImageError, ImageRecord, PullProgress};

/// Layers of one image on their way at once.
const LAYERS_AT_ONCE: usize = 3;

pub(super) struct Puller<'a> {
    pub(super) store: &'a Arc<Store>,
    pub(super) registries: &'a Registries,
    pub(super) auth: &'a Credentials,
    pub(super) progress: Option<mpsc::Sender<PullProgress>>,
}

impl Puller<'_> {
    /// Pulls; returns the image and the bytes that were downloaded.
    pub(super) async fn pull(
        &self,
        image: &str,
        reference: &Reference,
    ) -> Result<(ImageRecord, u64), ImageError> {
        let mut last = None;
        for host in self.registries.hosts(reference.registry()) {
            let mut target = reference.clone();
            target.set_mirror_registry(host.address.clone());
            for auth in self
                .auth
                .candidates(reference.registry(), reference.repository())
            {
                // One client for each try: a client keeps the first credentials that it was given for a registry.
                let client = registries::client(&host).map_err(|cause| ImageError::Pull {
                    image: image.to_owned(),
                    cause,
                })?;
                match client.pull_manifest_and_config(&target, &auth).await {
                    Ok((manifest, digest, config)) => {
                        let source = Source {
                            client: &client,
                            target: &target,
                            image,
                            reference,
                        };
                        match self.layers(&source, &manifest, &digest, &config).await {
                            Ok(pulled) => return Ok(pulled),
                            // A mirror whose content is damaged or cut short is no reason to give up.
                            Err(error) => {
                                tracing::warn!(host = host.address, %error, "asking the next host");
                                last = Some(error);
                                break;
                            }
                        }
                    }
                    Err(error) => last = Some(failure(image, reference, &auth, &error)),
                }
            }
        }
        Err(last.unwrap_or_else(|| ImageError::Pull {
            image: image.to_owned(),
            cause: "no host to ask".to_owned(),
        }))
    }

    async fn layers(
        &self,
        source: &Source<'_>,
        manifest: &OciImageManifest,
        digest: &str,
        config: &str,
    ) -> Result<(ImageRecord, u64), ImageError> {
        let fail = |cause: String| ImageError::Pull {
            image: source.image.to_owned(),
            cause,
        };
        let parsed = parse_config(config.as_bytes()).map_err(&fail)?;
        if parsed.diff_ids.len() != manifest.layers.len() {
            return Err(fail(
                "the image's configuration and manifest disagree about its layers".to_owned(),
            ));
        }
        let total: u64 = manifest
            .layers
            .iter()
            .map(|l| u64::try_from(l.size).unwrap_or_default())
            .sum();
        let work: Vec<_> = manifest
            .layers
            .iter()
            .zip(&parsed.diff_ids)
            .map(|(layer, diff_id)| self.layer(source, layer, diff_id))
            .collect();
        let mut done = 0;
        let mut downloaded = 0;
        let mut layers = Vec::with_capacity(manifest.layers.len());
        let mut results = futures::stream::iter(work).buffered(LAYERS_AT_ONCE);
        while let Some((path, bytes, size)) = results.try_next().await? {
            layers.push(path);
            downloaded += bytes;
            done += size;
            if let Some(progress) = &self.progress {
                // A full queue only means a coarser display.
                let _ = progress.try_send(PullProgress::Bytes {
                    done,
                    total: Some(total),
                });
            }
        }
        drop(results);
        let repository = format!(
            "{}/{}",
            source.reference.registry(),
            source.reference.repository()
        );
        let record = ImageRecord {
            id: manifest.config.digest.clone(),
            image_id: format!("{repository}@{digest}"),
            references: vec![source.reference.whole()],
            size_bytes: total,
            layers,
            config: parsed.config,
        };
        let store = Arc::clone(self.store);
        let kept = tokio::task::spawn_blocking(move || store.put(record)).await;
        Ok((kept.map_err(|e| fail(e.to_string()))??, downloaded))
    }

    /// One layer: (its directory, bytes downloaded, its size).
    async fn layer(
        &self,
        source: &Source<'_>,
        layer: &OciDescriptor,
        diff_id: &str,
    ) -> Result<(std::path::PathBuf, u64, u64), ImageError> {
        let size = u64::try_from(layer.size).unwrap_or_default();
        let present = self.store.layer_path(diff_id);
        if present.is_dir() {
            return Ok((present, 0, size));
        }
        let fail = |cause: String| ImageError::Pull {
            image: source.image.to_owned(),
            cause,
        };
        let blob = self.store.scratch();
        download(source, layer, &blob).await.map_err(&fail)?;
        let (store, diff_id) = (Arc::clone(self.store), diff_id.to_owned());
        // The blob goes along: this runs to its end even if the pull is given up.
        let unpacked =
            tokio::task::spawn_blocking(move || -> Result<std::path::PathBuf, String> {
                let file = std::fs::File::open(&*blob).map_err(|e| e.to_string())?;
                let into = store.scratch();
                unpack(file, &into, &diff_id).map_err(|e| e.to_string())?;
                store
                    .commit_layer(&into, &diff_id)
                    .map_err(|e| e.to_string())
            });
        let path = unpacked
            .await
            .map_err(|e| fail(e.to_string()))?
            .map_err(&fail)?;
        Ok((path, size, size))
    }
}

struct Source<'a> {
    client: &'a Client,
    target: &'a Reference,
    image: &'a str,
    reference: &'a Reference,
}

/// The library checks the digest while the stream is read; the size is checked here.
async fn download(source: &Source<'_>, layer: &OciDescriptor, to: &Path) -> Result<(), String> {
    let mut blob = source
        .client
        .pull_blob_stream(source.target, layer)
        .await
        .map_err(|e| describe(&e))?;
    // Made at once: given to another thread, it could be made after the pull was given up and cleaned up behind.
    let file = std::fs::File::create(to).map_err(|e| e.to_string())?;
    let mut file = tokio::fs::File::from_std(file);
    let limit = u64::try_from(layer.size).unwrap_or_default();
    let mut written = 0_u64;
    while let Some(chunk) = blob.stream.next().await {
        let chunk = chunk.map_err(|e| e.to_string())?;
        written += chunk.len() as u64;
        if written > limit {
            return Err(format!(
                "blob {} is larger than its manifest says",
                layer.digest
            ));
        }
        file.write_all(&chunk).await.map_err(|e| e.to_string())?;
    }
    if written != limit {
        return Err(format!(
            "blob {} ended after {written} of {limit} bytes",
            layer.digest
        ));
    }
    file.flush().await.map_err(|e| e.to_string())
}

fn failure(
    image: &str,
    reference: &Reference,
    auth: &RegistryAuth,
    error: &OciDistributionError,
) -> ImageError {
    let anonymous = matches!(auth, RegistryAuth::Anonymous);
    let cause = match error {
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_)
            if anonymous =>
        {
            format!(
                "pull access denied, {} may not exist or may require credentials (imagePullSecrets)",
                reference.repository()
            )
        }
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_) => {
            format!(
                "authorization failed for {}: the credentials were refused",
                reference.registry()
            )
        }
        // Registries say it in the body of a 404 more often than with a plain one.
        OciDistributionError::RegistryError { envelope, .. } if is_unknown(envelope) => {
            format!(
                "failed to resolve reference {:?}: {}: not found",
                reference.whole(),
                reference.whole()
            )
        }
        OciDistributionError::ImageManifestNotFoundError(_) => {
            format!(
                "failed to resolve reference {:?}: {}: not found",
                reference.whole(),
                reference.whole()
            )
        }
        other => format!(
            "failed to resolve reference {:?}: {}",
            reference.whole(),
            describe(other)
        ),
    };
    let unreachable =
        matches!(error, OciDistributionError::RequestError(e) if e.is_connect() || e.is_timeout());
    let image = image.to_owned();
    if unreachable {
        ImageError::RegistryUnavailable { image, cause }
    } else {
        ImageError::Pull { image, cause }
    }
}

fn is_unknown(envelope: &oci_client::errors::OciEnvelope) -> bool {
    let unknown = |code: &OciErrorCode| {
        matches!(
            code,
            OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
        )
    };
    envelope.errors.iter().any(|error| unknown(&error.code))
}

/// The error with all its causes: "connection refused" hides deep.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

/// What is needed of an image's configuration.
pub(super) struct ParsedConfig {
    pub(super) diff_ids: Vec<String>,
    pub(super) config: ImageConfig,
}

/// Reads an image configuration (OCI image specification 1.1, and Docker's, which it came from).
pub(super) fn parse_config(text: &[u8]) -> Result<ParsedConfig, String> {
    #[derive(serde::Deserialize)]
    struct Raw {
        #[serde(default)]
        config: Option<Run>,
        rootfs: RootFs,
    }
    #[derive(serde::Deserialize)]
    struct RootFs {
        diff_ids: Vec<String>,
    }
    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Run {
        entrypoint: Option<Vec<String>>,
        cmd: Option<Vec<String>>,
        env: Option<Vec<String>>,
        working_dir: Option<String>,
        user: Option<String>,
        stop_signal: Option<String>,
    }
    let raw: Raw = serde_json::from_slice(text)
        .map_err(|e| format!("the image's configuration is not valid: {e}"))?;
    // They become names of directories: nothing but a digest may.
    if let Some(bad) = raw.rootfs.diff_ids.iter().find(|id| !is_sha256(id)) {
        return Err(format!(
            "the image's configuration names a layer {bad:?}, which is not a sha256 digest"
        ));
    }
    let run = raw.config.unwrap_or_default();
    let config = ImageConfig {
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
        env: run.env.unwrap_or_default(),
        working_dir: run.working_dir.unwrap_or_default(),
        user: run.user.unwrap_or_default(),
        stop_signal: run.stop_signal.unwrap_or_default(),
    };
    Ok(ParsedConfig {
        diff_ids: raw.rootfs.diff_ids,
        config,
    })
}

/// `sha256:` and 64 lower-case hexadecimal digits, as the OCI image specification wants it.
fn is_sha256(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_is_not_a_digest_is_refused() {
        let parse = |id: &str| {
            let text = serde_json::json!({"rootfs": {"diff_ids": [id]}}).to_string();
            parse_config(text.as_bytes()).map(|parsed| parsed.diff_ids)
        };
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(parse(&good), Ok(vec![good.clone()]));
        for bad in [
            "/etc/corten".to_owned(),
            "../../../etc".to_owned(),
            String::new(),
            "sha256:".to_owned(),
            good.to_uppercase(),
            format!("{good}/.."),
            format!("sha256:{}", "/x".repeat(32)),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
