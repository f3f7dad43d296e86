//! Whether this member is well, as etcd tells it: `/health` for all and sundry, `/livez` and `/readyz` for a supervisor.
//!
//! Not the admin port's checks, which are Corten's own. Invariant: a check reads what a client's call would read, and asks
//! nobody who it is.

use corten_proto::etcd::etcdserverpb::{AlarmType, RangeRequest};
use http::{Response, StatusCode};
use tonic::body::Body;

use super::{json, text};
use crate::replica::{ProposeError, Replica};

/// The checks of a path, in the order in which they are told.
const LIVEZ: &[&str] = &["serializable_read"];
const READYZ: &[&str] = &[
    "data_corruption",
    "serializable_read",
    "linearizable_read",
    "non_learner",
];

fn checks_of(root: &str) -> Option<&'static [&'static str]> {
    match root {
        "livez" => Some(LIVEZ),
        "readyz" => Some(READYZ),
        _ => None,
    }
}

/// The root of a path of checks and, if it names one, the check.
fn parse(path: &str) -> Option<(&'static [&'static str], Option<&str>)> {
    let path = path.strip_prefix('/')?;
    let Some((root, name)) = path.split_once('/') else {
        return checks_of(path).map(|all| (all, None));
    };
    let all = checks_of(root)?;
    all.contains(&name).then_some((all, Some(name)))
}

/// Whether a path is one of checks.
pub(super) fn is_check(path: &str) -> bool {
    parse(path).is_some()
}

fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter_map(move |(key, value)| (key == name).then_some(value))
}

/// `/health`, with `?serializable=true` for this member alone and `?exclude=NOSPACE` for alarms that do not count.
pub(super) async fn health(replica: &dyn Replica, query: &str) -> Response<Body> {
    let serializable = values(query, "serializable").any(|value| value == "true");
    let reason = match ill(replica, query, serializable).await {
        Ok(()) => String::new(),
        Err(reason) => reason,
    };
    let well = reason.is_empty();
    let body = serde_json::json!({ "health": well.to_string(), "reason": reason });
    let status = if well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, body.to_string().into_bytes())
}

async fn ill(replica: &dyn Replica, query: &str, serializable: bool) -> Result<(), String> {
    let alarms = replica.engine().store().alarms();
    for alarm in alarms.map_err(|error| format!("RANGE ERROR:{error}"))? {
        let name = alarm.alarm().as_str_name();
        if !values(query, "exclude").any(|excluded| excluded == name) {
            return Err(format!("ALARM {name}"));
        }
    }
    if !serializable && replica.status().leader == 0 {
        return Err("RAFT NO LEADER".to_owned());
    }
    let read = read(replica, serializable).await;
    read.map_err(|error| format!("RANGE ERROR:{error}"))
}

/// `/livez` and `/readyz`, whole or one check, with `?verbose` and `?exclude=<check>`.
pub(super) async fn checks(replica: &dyn Replica, path: &str, query: &str) -> Response<Body> {
    let Some((all, only)) = parse(path) else {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let excluded = |name: &&&str| {
        only.is_none() && values(query, "exclude").any(|excluded| excluded == **name)
    };
    let asked = all
        .iter()
        .filter(|name| only.is_none_or(|only| only == **name));
    let mut told = String::new();
    let mut status = StatusCode::OK;
    for name in asked.filter(|name| !excluded(name)) {
        match check(replica, name).await {
            Ok(()) => told.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                told.push_str(&format!("[-]{name} failed: {reason}\n"));
                status = StatusCode::SERVICE_UNAVAILABLE;
            }
        }
    }
    if status == StatusCode::OK {
        if values(query, "verbose").next().is_none() {
            told.clear();
        }
        told.push_str("ok\n");
    }
    text(status, told)
}

async fn check(replica: &dyn Replica, name: &str) -> Result<(), String> {
    let reason = |error: ProposeError| format!("range error: {error}");
    match name {
        "data_corruption" => {
            let alarms = replica.engine().store().alarms();
            let alarms = alarms.map_err(|error| error.to_string())?;
            let corrupt = alarms
                .iter()
                .any(|alarm| alarm.alarm() == AlarmType::Corrupt);
            if corrupt {
                Err("alarm activated: CORRUPT".to_owned())
            } else {
                Ok(())
            }
        }
        "serializable_read" => read(replica, true).await.map_err(reason),
        "linearizable_read" => read(replica, false).await.map_err(reason),
        _ if replica.status().is_learner => Err("not supported for learner".to_owned()),
        _ => Ok(()),
    }
}

/// What a client that reads one key goes through.
async fn read(replica: &dyn Replica, serializable: bool) -> Result<(), ProposeError> {
    if replica.is_corrupt() {
        return Err(ProposeError::Corrupt);
    }
    if !serializable {
        replica.read_barrier().await?;
    }
    let request = RangeRequest {
        key: bytes::Bytes::from_static(b"health"),
        keys_only: true,
        ..Default::default()
    };
    let read = replica.engine().store().range(&request);
    read.map(drop)
        .map_err(|error| ProposeError::Storage(error.to_string()))
}
