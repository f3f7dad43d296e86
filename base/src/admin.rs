//! The admin port that every process has: /livez, /readyz, /healthz, /metrics, /version, /debug/loops. Readiness is a set of
//! named checks; each is visible by name with `?verbose` and as `/readyz/<name>`. Every loop that works on something again and
//! again reports how it does, on a page for people and as metrics.

mod checks;
mod loops;
mod serve;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

pub use checks::Readiness;
pub use loops::{LoopLog, LoopReport, Loops};

/// The answer to an admin request.
pub type AdminResponse = Response<Full<Bytes>>;

/// What one process shows of itself. Cheap to clone; all clones share state.
#[derive(Clone)]
pub struct AdminServer {
    inner: Arc<Inner>,
}

struct Inner {
    component: &'static str,
    started: Instant,
    readiness: Readiness,
    loops: Loops,
    registry: Mutex<Registry>,
}

impl AdminServer {
    /// An admin face for `component`, not yet served anywhere.
    pub fn new(component: &'static str) -> Self {
        let mut registry = Registry::default();
        checks::register_process_metrics(&mut registry, component);
        let loops = Loops::default();
        registry.register_collector(Box::new(loops.clone()));
        Self {
            inner: Arc::new(Inner {
                component,
                started: Instant::now(),
                readiness: Readiness::default(),
                loops,
                registry: Mutex::new(registry),
            }),
        }
    }

    /// Where checks are added and set.
    pub fn readiness(&self) -> Readiness {
        self.inner.readiness.clone()
    }

    /// Where loops say how they do.
    pub fn loops(&self) -> Loops {
        self.inner.loops.clone()
    }

    /// Registers metrics; called while the component is built.
    pub fn with_registry<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.inner.registry.lock())
    }

    /// Answers an admin path, or `None` for any other path, so that a server can mount this beside its own routes.
    pub fn handle(&self, path: &str, query: Option<&str>) -> Option<AdminResponse> {
        let verbose = query.is_some_and(|q| {
            q.split('&')
                .any(|p| p == "verbose" || p.starts_with("verbose="))
        });
        match path {
            "/livez" => Some(text(StatusCode::OK, "ok".to_owned())),
            "/readyz" | "/healthz" => Some(self.ready(path, verbose)),
            "/metrics" => Some(self.metrics()),
            "/version" => Some(self.version()),
            "/debug/loops" => Some(text(StatusCode::OK, self.inner.loops.page())),
            _ => {
                let name = path
                    .strip_prefix("/readyz/")
                    .or_else(|| path.strip_prefix("/livez/"))?;
                Some(match self.inner.readiness.run_one(name)? {
                    Ok(()) => text(StatusCode::OK, "ok".to_owned()),
                    Err(reason) => text(StatusCode::INTERNAL_SERVER_ERROR, reason),
                })
            }
        }
    }

    fn ready(&self, path: &str, verbose: bool) -> AdminResponse {
        let name = path.trim_start_matches('/');
        let results = self.inner.readiness.run();
        let failed = results.iter().any(|(_, outcome)| outcome.is_err());
        if !failed && !verbose {
            return text(StatusCode::OK, "ok".to_owned());
        }
        let mut body = String::new();
        for (check, outcome) in &results {
            match outcome {
                Ok(()) => body.push_str(&format!("[+]{check} ok\n")),
                Err(reason) => body.push_str(&format!("[-]{check} failed: {reason}\n")),
            }
        }
        body.push_str(&format!(
            "{name} check {}\n",
            if failed { "failed" } else { "passed" }
        ));
        text(
            if failed {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::OK
            },
            body,
        )
    }

    fn metrics(&self) -> AdminResponse {
        let mut body = String::new();
        let encoded =
            prometheus_client::encoding::text::encode(&mut body, &self.inner.registry.lock());
        if let Err(error) = encoded {
            return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        }
        with_type(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            body,
        )
    }

    fn version(&self) -> AdminResponse {
        let body = serde_json::json!({
            "component": self.inner.component,
            "version": crate::version::VERSION,
            "gitCommit": crate::version::GIT_COMMIT,
            "kubernetes": crate::version::KUBERNETES,
            "uptimeSeconds": self.inner.started.elapsed().as_secs(),
        });
        with_type(StatusCode::OK, "application/json", body.to_string())
    }
}

fn text(status: StatusCode, body: String) -> AdminResponse {
    with_type(status, "text/plain; charset=utf-8", body)
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> AdminResponse {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(content_type),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_fails() {
        let admin = AdminServer::new("test");
        assert_eq!(admin.handle("/readyz", None).expect("known").status(), 200);
        admin.readiness().set("store", Err("no leader".to_owned()));
        assert_eq!(admin.handle("/readyz", None).expect("known").status(), 500);
        assert_eq!(
            admin.handle("/readyz/store", None).expect("known").status(),
            500
        );
        assert_eq!(admin.handle("/livez", None).expect("known").status(), 200);
        admin.readiness().set("store", Ok(()));
        assert_eq!(admin.handle("/readyz", None).expect("known").status(), 200);
        assert!(admin.handle("/api", None).is_none());
        assert_eq!(admin.handle("/metrics", None).expect("known").status(), 200);
    }
}
