//! One HTTP GET for a probe or a hook. Certificates are not verified: the answer says whether a server lives, not who it is.
//! Redirects are followed as long as they stay on the host that was asked; elsewhere nobody asked to look.

use bytes::Bytes;
use corten_base::tasks::{self, TaskKind};
use corten_base::tls::unverified_client_config;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Upstream's limit.
const REDIRECTS_MAX: usize = 10;

/// Where to and what to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

/// What came back. The body is only read where it is told: of a redirect that was not followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: String,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Request {
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// For messages.
    pub(super) fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// Where a `Location` leads from here; None when it cannot be read.
    fn redirected(&self, location: &str) -> Option<Self> {
        let scheme = if self.https { "https" } else { "http" };
        let absolute = if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.contains("://") {
            location.to_owned()
        } else if location.starts_with('/') {
            format!("{scheme}://{}{location}", self.authority())
        } else {
            let folder = self.path.split(['?', '#']).next().unwrap_or("/");
            let folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{}{folder}/{location}", self.authority())
        };
        let uri: http::Uri = absolute.split('#').next()?.parse().ok()?;
        let https = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Some(Self {
            https,
            host: uri.host()?.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            path: path.to_owned(),
            headers: self.headers.clone(),
        })
    }
}

/// The last answer: not a redirect, or one to somewhere else.
pub(super) async fn get(request: &Request) -> Result<Answer, Failure> {
    let mut current = request.clone();
    for _ in 0..REDIRECTS_MAX {
        let answer = fetch(&current).await?;
        let next = answer
            .location
            .as_deref()
            .and_then(|location| current.redirected(location));
        match next.filter(|next| next.host == request.host) {
            Some(next) => current = next,
            None => return Ok(answer),
        }
    }
    Err(format!("stopped after {REDIRECTS_MAX} redirects").into())
}

async fn fetch(request: &Request) -> Result<Answer, Failure> {
    let tcp = TcpStream::connect((request.host.as_str(), request.port)).await?;
    if !request.https {
        return exchange(tcp, request).await;
    }
    let name = ServerName::try_from(request.host.clone())?;
    let tls = tokio_rustls::TlsConnector::from(unverified_client_config()?)
        .connect(name, tcp)
        .await?;
    exchange(tls, request).await
}

async fn exchange<S>(stream: S, request: &Request) -> Result<Answer, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tasks::spawn("probe-http", TaskKind::Connection, async move {
        let _ = connection.await;
    });
    let mut builder = http::Request::get(format!("/{}", request.path.trim_start_matches('/')));
    let has = |name: &str| {
        request
            .headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    if !has("host") {
        builder = builder.header("host", request.authority());
    }
    if !has("user-agent") {
        builder = builder.header("user-agent", "kube-probe/1.35");
    }
    if !has("accept") {
        builder = builder.header("accept", "*/*");
    }
    for (name, value) in &request.headers {
        builder = builder.header(name.as_str(), value.as_str());
    }
    let answer = match sender
        .send_request(builder.body(Empty::<Bytes>::new())?)
        .await
    {
        Ok(answer) => read(answer).await,
        Err(error) => Err(error.into()),
    };
    driver.abort();
    answer
}

async fn read(answer: http::Response<Incoming>) -> Result<Answer, Failure> {
    let status = answer.status().as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(Answer {
            status,
            ..Answer::default()
        });
    }
    let location = answer.headers().get("location");
    let location = location.and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while text.len() < super::OUTPUT_MAX {
        match body.frame().await {
            Some(Ok(frame)) => text.extend(frame.data_ref().into_iter().flatten()),
            _ => break,
        }
    }
    text.truncate(super::OUTPUT_MAX);
    Ok(Answer {
        status,
        location,
        body: String::from_utf8_lossy(&text).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_redirects_lead() {
        let from = Request {
            https: false,
            host: "10.0.0.1".to_owned(),
            port: 8080,
            path: "/a/b?x=1".to_owned(),
            headers: vec![("k".to_owned(), "v".to_owned())],
        };
        for (location, wanted) in [
            ("/here?y", Some("http://10.0.0.1:8080/here?y")),
            ("c", Some("http://10.0.0.1:8080/a/c")),
            ("https://10.0.0.1/s#part", Some("https://10.0.0.1:443/s")),
            ("//other/x", Some("http://other:80/x")),
            ("http://[fd00::1]:81/", Some("http://[fd00::1]:81/")),
            ("ftp://10.0.0.1/", None),
            ("http://", None),
        ] {
            let to = from.redirected(location);
            assert_eq!(
                to.as_ref().map(Request::url).as_deref(),
                wanted,
                "{location}"
            );
            assert!(to.is_none_or(|to| to.headers == from.headers));
        }
    }
}
