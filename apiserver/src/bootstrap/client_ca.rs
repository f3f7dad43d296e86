//! The ConfigMap `kube-system/extension-apiserver-authentication`: the authorities of clients' certificates, for API servers that
//! stand behind this one and have to know its clients.
//!
//! Several servers may trust different authorities while these are exchanged: each adds its own, and nobody takes away another's
//! before it has ended. Invariant: nothing is written while everything is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use corten_api::status::Status;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::create_if_missing;
use crate::chain::objects::{Objects, Resource};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const KEY: &str = "client-ca-file";
/// How often the file and the object are compared; upstream looks as often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Keeps the authorities of the file in the object as long as the server runs.
pub fn start(objects: &Arc<dyn Objects>, file: PathBuf, shutdown: &Shutdown) {
    let (objects, shutdown) = (Arc::clone(objects), shutdown.clone());
    spawn("client-ca", TaskKind::Background, async move {
        loop {
            let published = match std::fs::read_to_string(&file) {
                Ok(pem) => publish(&*objects, &pem, Timestamp::now())
                    .await
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = published {
                tracing::warn!(%error, "{NAMESPACE}/{NAME} is not up to date");
            }
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    });
}

async fn publish(objects: &dyn Objects, pem: &str, now: Timestamp) -> Result<(), Status> {
    let resource = Resource::core("configmaps");
    let Some(mut present) = objects.get(resource, NAMESPACE, NAME).await? else {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"namespace": NAMESPACE, "name": NAME},
            "data": {KEY: merged("", pem, now)},
        });
        return create_if_missing(objects, resource, NAMESPACE, NAME, object).await;
    };
    let before = present["data"][KEY].as_str().unwrap_or("");
    let after = merged(before, pem, now);
    if before == after {
        return Ok(());
    }
    if !present["data"].is_object() {
        present["data"] = json!({});
    }
    present["data"][KEY] = after.into();
    objects.update(resource, NAMESPACE, present).await.map(drop)
}

/// The certificates of both, each once, without those that have ended.
fn merged(present: &str, own: &str, now: Timestamp) -> String {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for pem in [present, own] {
        // What is no certificate helps nobody who reads this.
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()).flatten() {
            if is_good(&certificate, now) && !all.iter().any(|known| **known == *certificate) {
                all.push(certificate.to_vec());
            }
        }
    }
    all.iter().map(|der| pem_of(der)).collect()
}

fn is_good(certificate: &[u8], now: Timestamp) -> bool {
    x509_parser::parse_x509_certificate(certificate)
        .is_ok_and(|(_, parsed)| parsed.validity().not_after.timestamp() > now.as_second())
}

fn pem_of(der: &[u8]) -> String {
    const LINE: usize = 64;
    let text = BASE64.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::objects::fake::Fake;

    fn authority(name: &str) -> String {
        let authority = corten_base::pki::Authority::create(name).expect("an authority");
        authority.cert_pem().to_owned()
    }

    async fn published(objects: &Fake) -> String {
        let found = objects.get(Resource::core("configmaps"), NAMESPACE, NAME);
        let found = found.await.expect("read").expect("there");
        found["data"][KEY].as_str().expect("text").to_owned()
    }

    #[tokio::test]
    async fn each_server_adds_its_authority_and_what_has_ended_goes() {
        let objects = Fake::with(&[]);
        let (one, two) = (authority("one"), authority("two"));
        let now = Timestamp::now();
        for pem in [&one, &two, &one] {
            publish(&*objects, pem, now).await.expect("published");
        }
        let count = |pem: &str| pem.matches("BEGIN CERTIFICATE").count();
        let both = published(&objects).await;
        assert_eq!(count(&both), 2, "{both}");
        let writes = objects.writes();
        publish(&*objects, &two, now).await.expect("published");
        assert_eq!(objects.writes(), writes, "nothing is written for nothing");
        let later: Timestamp = "2100-01-01T00:00:00Z".parse().expect("a time");
        publish(&*objects, "no certificate", later)
            .await
            .expect("published");
        assert_eq!(published(&objects).await, "");
    }
}
