//! Carrying out probes and hooks: commands, HTTP, TCP, gRPC and sleeping. What results mean is the pod machine's business.

mod grpc;
mod http;

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container as ContainerSpec, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::runtime::{Container, ContainerRuntime};

/// Longest piece of output that goes into an event.
const OUTPUT_MAX: usize = 2048;

/// What a check is carried out on.
pub struct Target<'a> {
    pub runtime: &'a dyn ContainerRuntime,
    pub container: &'a Container,
    pub spec: &'a ContainerSpec,
    pub pod_ip: Option<IpAddr>,
}

/// Runs one probe; Ok when healthy (with a warning, if there is one), else what was seen.
pub async fn probe(target: &Target<'_>, probe: &Probe) -> Result<Option<String>, String> {
    let seconds = probe.timeout_seconds.filter(|s| *s > 0).unwrap_or(1);
    let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
    let work = async {
        if let Some(exec) = &probe.exec {
            let argv = exec.command.as_deref().unwrap_or(&[]);
            return command(target, argv, Some(timeout)).await.map(|()| None);
        }
        if let Some(get) = &probe.http_get {
            return http_probe(target, get, timeout).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            return tcp_connect(target, tcp).await.map(|()| None);
        }
        if let Some(action) = &probe.grpc {
            let host = host_of(target, None)?;
            let port =
                u16::try_from(action.port).map_err(|_| "the port is out of range".to_owned())?;
            let service = action.service.as_deref().unwrap_or("");
            return grpc::health(&host, port, service).await.map(|()| None);
        }
        Err("the probe names no action".to_owned())
    };
    // Commands watch the limit themselves, to kill what they started.
    let limit = if probe.exec.is_some() {
        timeout + Duration::from_secs(5)
    } else {
        timeout
    };
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(format!("timed out after {seconds}s")))
}

/// Runs one lifecycle hook.
pub async fn hook(
    target: &Target<'_>,
    handler: &LifecycleHandler,
    timeout: Option<Duration>,
) -> Result<(), String> {
    let work = async {
        if let Some(exec) = &handler.exec {
            return command(target, exec.command.as_deref().unwrap_or(&[]), timeout).await;
        }
        if let Some(get) = &handler.http_get {
            let limit = timeout.unwrap_or(Duration::from_secs(30));
            // Any answer will do: the hook is a message, not a question.
            return http_get(target, get, limit).await.map(drop);
        }
        if let Some(sleep) = &handler.sleep {
            tokio::time::sleep(Duration::from_secs(
                u64::try_from(sleep.seconds).unwrap_or(0),
            ))
            .await;
            return Ok(());
        }
        if let Some(tcp) = &handler.tcp_socket {
            return tcp_connect(target, tcp).await;
        }
        Err("the hook names no action".to_owned())
    };
    match timeout {
        Some(limit) => tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(format!("the grace period of {}s is over", limit.as_secs()))),
        None => work.await,
    }
}

async fn command(
    target: &Target<'_>,
    argv: &[String],
    timeout: Option<Duration>,
) -> Result<(), String> {
    match target
        .runtime
        .exec_sync(target.container, argv, timeout)
        .await
    {
        Ok(Some(output)) if output.code == 0 => Ok(()),
        Ok(Some(output)) if output.output.trim().is_empty() => {
            Err(format!("command exited with code {}", output.code))
        }
        Ok(Some(output)) => Err(output.output.chars().take(OUTPUT_MAX).collect()),
        Ok(None) => {
            let seconds = timeout.map_or(0, |limit| limit.as_secs());
            Err(format!("command {argv:?} timed out after {seconds}s"))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn host_of(target: &Target<'_>, named: Option<&str>) -> Result<String, String> {
    match named.filter(|host| !host.is_empty()) {
        Some(host) => Ok(host.to_owned()),
        None => target
            .pod_ip
            .map(|ip| ip.to_string())
            .ok_or_else(|| "the pod has no address".to_owned()),
    }
}

/// A port given by number or by the name of a container port.
fn port_of(target: &Target<'_>, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => name.parse().ok().or_else(|| {
            let ports = target.spec.ports.iter().flatten();
            ports
                .filter(|p| p.name.as_deref() == Some(name))
                .map(|p| p.container_port)
                .next()
        }),
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("port {port:?} is not known"))
}

async fn http_get(
    target: &Target<'_>,
    get: &HTTPGetAction,
    timeout: Duration,
) -> Result<http::Answer, String> {
    let request = http::Request {
        https: get.scheme.as_deref() == Some("HTTPS"),
        host: host_of(target, get.host.as_deref())?,
        port: port_of(target, &get.port)?,
        path: get
            .path
            .clone()
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "/".to_owned()),
        headers: get
            .http_headers
            .iter()
            .flatten()
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    };
    tokio::time::timeout(timeout, http::get(&request))
        .await
        .map_err(|_| format!("Get \"{}\": context deadline exceeded", request.url()))?
        .map_err(|error| format!("Get \"{}\": {error}", request.url()))
}

async fn http_probe(
    target: &Target<'_>,
    get: &HTTPGetAction,
    timeout: Duration,
) -> Result<Option<String>, String> {
    let answer = http_get(target, get, timeout).await?;
    match answer.status {
        200..300 => Ok(None),
        300..400 => Ok(Some(format!(
            "Probe terminated redirects, Response body: {}",
            answer.body
        ))),
        status => Err(format!("HTTP probe failed with statuscode: {status}")),
    }
}

async fn tcp_connect(target: &Target<'_>, tcp: &TCPSocketAction) -> Result<(), String> {
    let host = host_of(target, tcp.host.as_deref())?;
    let port = port_of(target, &tcp.port)?;
    tokio::net::TcpStream::connect((host.as_str(), port))
        .await
        .map(drop)
        .map_err(|error| format!("dial tcp {host}:{port}: {error}"))
}
