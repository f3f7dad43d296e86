//! A scripted server for this crate's tests: watches follow a script, other calls keep JSON objects in a map. It is no
//! imitation of the API server: no validation, no defaults, one revision counter. Components test against the real one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::corten::api::v1 as wire;
use corten_proto::corten::api::v1::resources_server::{Resources, ResourcesServer};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::client::Client;

/// One step of a scripted watch.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(wire::WatchReply),
    /// Ends the stream with a Status of this code.
    Fail(i32),
    /// Keeps the stream open for ever.
    Hang,
}

impl Step {
    fn event(kind: wire::watch_reply::Type, object: Value) -> Self {
        Self::Send(wire::WatchReply {
            r#type: kind.into(),
            object: Bytes::from(object.to_string()),
            ..wire::WatchReply::default()
        })
    }

    pub(crate) fn added(object: Value) -> Self {
        Self::event(wire::watch_reply::Type::Added, object)
    }

    pub(crate) fn modified(object: Value) -> Self {
        Self::event(wire::watch_reply::Type::Modified, object)
    }

    pub(crate) fn deleted(object: Value) -> Self {
        Self::event(wire::watch_reply::Type::Deleted, object)
    }
}

pub(crate) fn bookmark(revision: u64, initial_end: bool) -> Step {
    Step::Send(wire::WatchReply {
        r#type: wire::watch_reply::Type::Bookmark.into(),
        resource_version: revision.to_string(),
        initial_events_end: initial_end,
        ..wire::WatchReply::default()
    })
}

pub(crate) fn pod_json(namespace: &str, name: &str, revision: u64, node: &str) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []}, "metadata":
        {"namespace": namespace, "name": name, "uid": name, "resourceVersion": revision.to_string()}});
    if !node.is_empty() {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

#[derive(Debug, Default)]
struct State {
    watches: Vec<Vec<Step>>,
    resumes: Vec<String>,
    objects: BTreeMap<(String, String, String), Value>,
    revision: u64,
    calls: Vec<String>,
    refusals: Vec<(String, i32, String)>,
}

/// The server's script and memory; clones share both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    state: Arc<Mutex<State>>,
    refuse: Arc<AtomicBool>,
}

impl Script {
    /// Each watch that is opened follows the next list of steps.
    pub(crate) fn new(mut watches: Vec<Vec<Step>>) -> Self {
        watches.reverse();
        let script = Self::default();
        script.state.lock().watches = watches;
        script
    }

    /// The revisions that watches asked to go on from.
    pub(crate) fn resumes(&self) -> Vec<String> {
        self.state.lock().resumes.clone()
    }

    /// Whether all calls fail as unavailable.
    pub(crate) fn refuse_all(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::SeqCst);
    }

    /// The next call of this verb fails like this.
    pub(crate) fn refuse_once(&self, verb: &str, code: i32, reason: &str) {
        self.state
            .lock()
            .refusals
            .push((verb.to_owned(), code, reason.to_owned()));
    }

    /// The calls so far, as `verb namespace/name`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    fn enter(&self, verb: &str, target: &wire::Target) -> Result<(), Status> {
        if self.refuse.load(Ordering::SeqCst) {
            return Err(refusal(503, "ServiceUnavailable"));
        }
        let mut state = self.state.lock();
        state
            .calls
            .push(format!("{verb} {}/{}", target.namespace, target.name));
        match state.refusals.iter().position(|(of, _, _)| of == verb) {
            Some(at) => {
                let (_, code, reason) = state.refusals.remove(at);
                Err(refusal(code, &reason))
            }
            None => Ok(()),
        }
    }

    fn put(&self, target: &wire::Target, name: &str, mut object: Value) -> Value {
        let mut state = self.state.lock();
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        state.objects.insert(key(target, name), object.clone());
        object
    }

    fn held(&self, target: &wire::Target) -> Result<Value, Status> {
        let held = self
            .state
            .lock()
            .objects
            .get(&key(target, &target.name))
            .cloned();
        held.ok_or_else(|| refusal(404, "NotFound"))
    }
}

fn key(target: &wire::Target, name: &str) -> (String, String, String) {
    (
        target.resource.clone(),
        target.namespace.clone(),
        name.to_owned(),
    )
}

fn refusal(code: i32, reason: &str) -> Status {
    let mut status = Status::unknown("refused");
    let body = json!({"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": "scripted"});
    let value = tonic::metadata::MetadataValue::from_bytes(body.to_string().as_bytes());
    status
        .metadata_mut()
        .insert_bin(crate::error::STATUS_METADATA, value);
    status
}

fn reply(object: &Value) -> Response<wire::ObjectReply> {
    Response::new(wire::ObjectReply {
        object: Bytes::from(object.to_string()),
        warnings: Vec::new(),
    })
}

fn parse(json: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(json).map_err(|_| refusal(400, "BadRequest"))
}

fn merge(into: &mut Value, patch: &Value) {
    let (Some(fields), Some(changes)) = (into.as_object_mut(), patch.as_object()) else {
        *into = patch.clone();
        return;
    };
    for (name, change) in changes {
        merge(fields.entry(name.clone()).or_insert(Value::Null), change);
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Resources for Script {
    type WatchStream = ReceiverStream<Result<wire::WatchReply, Status>>;

    async fn get(&self, request: Request<wire::GetRequest>) -> Answer<wire::ObjectReply> {
        let target = request.into_inner().target.unwrap_or_default();
        self.enter("get", &target)?;
        Ok(reply(&self.held(&target)?))
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Answer<wire::ListReply> {
        let target = request.into_inner().target.unwrap_or_default();
        self.enter("list", &target)?;
        let state = self.state.lock();
        let items = state
            .objects
            .iter()
            .filter(|((resource, _, _), _)| *resource == target.resource)
            .map(|(_, object)| Bytes::from(object.to_string()))
            .collect();
        Ok(Response::new(wire::ListReply {
            resource_version: state.revision.to_string(),
            items,
            remaining_item_count: -1,
            ..wire::ListReply::default()
        }))
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Answer<Self::WatchStream> {
        let request = request.into_inner();
        self.enter("watch", &request.target.unwrap_or_default())?;
        let steps = {
            let mut state = self.state.lock();
            state.resumes.push(request.resource_version);
            state
                .watches
                .pop()
                .unwrap_or_else(|| vec![bookmark(1, true), Step::Hang])
        };
        let (sender, receiver) = mpsc::channel(16);
        spawn("script", TaskKind::Background, async move {
            for step in steps {
                let sent = match step {
                    Step::Send(reply) => sender.send(Ok(reply)).await,
                    Step::Fail(code) => sender.send(Err(refusal(code, "Scripted"))).await,
                    Step::Hang => {
                        sender.closed().await;
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn create(&self, request: Request<wire::CreateRequest>) -> Answer<wire::ObjectReply> {
        let request = request.into_inner();
        let target = request.target.unwrap_or_default();
        self.enter("create", &target)?;
        let object = parse(&request.object)?;
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if self.state.lock().objects.contains_key(&key(&target, &name)) {
            return Err(refusal(409, "AlreadyExists"));
        }
        Ok(reply(&self.put(&target, &name, object)))
    }

    async fn update(&self, request: Request<wire::UpdateRequest>) -> Answer<wire::ObjectReply> {
        let request = request.into_inner();
        let target = request.target.unwrap_or_default();
        self.enter("update", &target)?;
        let object = parse(&request.object)?;
        let held = self.held(&target)?;
        if object["metadata"]["resourceVersion"] != held["metadata"]["resourceVersion"] {
            return Err(refusal(409, "Conflict"));
        }
        Ok(reply(&self.put(&target, &target.name, object)))
    }

    async fn patch(&self, request: Request<wire::PatchRequest>) -> Answer<wire::ObjectReply> {
        let request = request.into_inner();
        let target = request.target.unwrap_or_default();
        self.enter("patch", &target)?;
        let mut object = self.held(&target)?;
        merge(&mut object, &parse(&request.patch)?);
        Ok(reply(&self.put(&target, &target.name, object)))
    }

    async fn delete(&self, request: Request<wire::DeleteRequest>) -> Answer<wire::ObjectReply> {
        let target = request.into_inner().target.unwrap_or_default();
        self.enter("delete", &target)?;
        let object = self.held(&target)?;
        self.state
            .lock()
            .objects
            .remove(&key(&target, &target.name));
        Ok(reply(&object))
    }

    async fn delete_collection(
        &self,
        _request: Request<wire::DeleteCollectionRequest>,
    ) -> Answer<wire::ListReply> {
        Err(Status::unimplemented("not scripted"))
    }
}

/// Serves a script in process, over memory.
pub(crate) async fn start(script: Script) -> (Client, Shutdown) {
    let (connections, incoming) = mpsc::channel::<std::io::Result<tokio::io::DuplexStream>>(4);
    let server = Server::builder()
        .add_service(ResourcesServer::new(script))
        .serve_with_incoming(ReceiverStream::new(incoming));
    spawn("scripted-server", TaskKind::Background, async move {
        server.await.expect("the server runs");
    });
    let connector = tower::service_fn(move |_: http::Uri| {
        let connections = connections.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            connections
                .send(Ok(theirs))
                .await
                .map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(ours))
        }
    });
    let channel = Endpoint::from_static("http://script").connect_with_connector_lazy(connector);
    (Client::from_channel(channel), Shutdown::new())
}
