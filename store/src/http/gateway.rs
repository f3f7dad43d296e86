//! etcd's API as JSON: each call becomes the gRPC call that it stands for, by the descriptors of the API alone.
//!
//! Not a second implementation: whatever the services refuse, this refuses. Invariant: what a message looks like in JSON is
//! proto3's mapping, with fields under their names in the .proto files, as etcd has it; both spellings are read.
//!
//! A stream's answers are lines of `{"result":...}`, the last perhaps `{"error":...}`.

use std::collections::HashMap;

use bytes::Bytes;
use corten_proto::etcd::DESCRIPTORS;
use futures::{Stream, StreamExt as _, stream};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor,
    SerializeOptions,
};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service as _;

use super::frames::{Messages, Values, framed};
use super::json;
use super::paths::PATHS;

/// Headers that a call keeps: a token, in etcd's spelling and in the web's.
const KEPT: [&str; 2] = ["authorization", "token"];

const READ: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);
const WRITE: SerializeOptions = SerializeOptions::new().use_proto_field_name(true);

/// Paths and what they stand for.
pub(crate) struct Gateway {
    methods: HashMap<String, Target>,
}

struct Target {
    uri: Uri,
    method: MethodDescriptor,
}

impl Gateway {
    pub(crate) fn new() -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS)
            .expect("the descriptors are made together with the messages");
        let target = |(path, service, name): &(&str, &str, &str)| {
            let service = pool
                .get_service_by_name(&format!("etcdserverpb.{service}"))
                .expect("a test resolves every path");
            let method = service.methods().find(|method| method.name() == *name);
            let method = method.expect("a test resolves every path");
            let uri = format!("/{}/{name}", service.full_name());
            let uri = uri
                .parse()
                .expect("names of services and methods are fit for paths");
            (format!("/v3/{path}"), Target { uri, method })
        };
        Self {
            methods: PATHS.iter().map(target).collect(),
        }
    }

    /// Answers a call.
    pub(super) async fn answer(&self, routes: Routes, request: Request<Body>) -> Response<Body> {
        let answer = self.call(routes, request).await;
        answer.unwrap_or_else(|status| {
            let body = error(&status).to_string().into_bytes();
            json(http_code(status.code()), body)
        })
    }

    async fn call(
        &self,
        mut routes: Routes,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let target = self.methods.get(request.uri().path());
        let target = target.ok_or_else(|| Status::not_found("Not Found"))?;
        if request.method() != Method::POST {
            return Err(Status::unimplemented("Method Not Allowed"));
        }
        let (head, body) = request.into_parts();
        let (input, output) = (target.method.input(), target.method.output());
        let body = if target.method.is_client_streaming() {
            many(Values::new(body), input).await?
        } else {
            Body::new(Full::new(one(Values::new(body), &input).await?))
        };
        let call = grpc(head, target.uri.clone(), body);
        let (head, body) = match routes.call(call).await {
            Ok(answer) => answer.into_parts(),
            Err(never) => match never {},
        };
        // A call that fails before its first message has its status here.
        let failed = Status::from_header_map(&head.headers);
        if let Some(status) = failed.filter(|status| status.code() != Code::Ok) {
            return Err(status);
        }
        let mut messages = Messages::new(body);
        let first = messages.next().await.transpose()?;
        if !target.method.is_server_streaming() {
            let message = first.ok_or_else(|| Status::internal("an answer without a message"))?;
            return Ok(json(StatusCode::OK, to_json(&output, message)?));
        }
        let mut answer = Response::new(Body::new(StreamBody::new(lines(first, messages, output))));
        let kind = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(answer)
    }
}

/// The gRPC call: what says who calls stays.
fn grpc(head: request::Parts, uri: Uri, body: Body) -> Request<Body> {
    let mut call = Request::new(body);
    *call.method_mut() = Method::POST;
    *call.uri_mut() = uri;
    *call.version_mut() = Version::HTTP_2;
    let headers = call.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    for name in KEPT {
        if let Some(value) = head.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
    *call.extensions_mut() = head.extensions;
    call
}

/// A body of one message, which is the empty one if there is none.
async fn one(values: Values, input: &MessageDescriptor) -> Result<Bytes, Status> {
    let value = values.only().await?;
    to_frame(input, value.as_deref().unwrap_or(b"{}"))
}

/// A body of many messages. The first is looked at before the call, so that nonsense gets an answer that says so.
async fn many(mut values: Values, input: MessageDescriptor) -> Result<Body, Status> {
    let first = match values.next().await.transpose()? {
        Some(value) => Some(to_frame(&input, &value)?),
        None => None,
    };
    let rest = stream::unfold((values, input), |(mut values, input)| async move {
        let value = values.next().await?;
        let frame = value.and_then(|value| to_frame(&input, &value));
        Some((frame, (values, input)))
    });
    let frames = stream::iter(first.map(Ok)).chain(rest);
    let frames = frames.map(|frame| frame.map(Frame::data));
    Ok(Body::new(StreamBody::new(frames)))
}

/// The lines of a stream's answer.
fn lines(
    first: Option<Bytes>,
    messages: Messages,
    output: MessageDescriptor,
) -> impl Stream<Item = Result<Frame<Bytes>, Status>> + Send {
    let rest = stream::unfold(messages, |mut messages| async move {
        Some((messages.next().await?, messages))
    });
    let all = stream::iter(first.map(Ok)).chain(rest);
    all.map(move |message| {
        let line = match message.and_then(|message| to_json(&output, message)) {
            Ok(result) => [b"{\"result\":", result.as_slice(), b"}\n"].concat(),
            Err(status) => {
                let error = serde_json::json!({ "error": error(&status) });
                format!("{error}\n").into_bytes()
            }
        };
        Ok(Frame::data(line.into()))
    })
}

fn to_frame(input: &MessageDescriptor, value: &[u8]) -> Result<Bytes, Status> {
    let mut source = serde_json::Deserializer::from_slice(value);
    let message = DynamicMessage::deserialize_with_options(input.clone(), &mut source, &READ);
    let message = message.map_err(|error| Status::invalid_argument(error.to_string()))?;
    framed(&message.encode_to_vec())
}

fn to_json(output: &MessageDescriptor, message: Bytes) -> Result<Vec<u8>, Status> {
    let unreadable = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let message =
        DynamicMessage::decode(output.clone(), message).map_err(|error| unreadable(&error))?;
    let mut text = Vec::new();
    let mut sink = serde_json::Serializer::new(&mut text);
    let written = message.serialize_with_options(&mut sink, &WRITE);
    written.map_err(|error| unreadable(&error))?;
    Ok(text)
}

/// A refusal, with the fields of both generations of etcd's gateway.
fn error(status: &Status) -> serde_json::Value {
    serde_json::json!({
        "error": status.message(),
        "code": status.code() as i32,
        "message": status.message(),
        "details": [],
    })
}

#[cfg(test)]
impl Gateway {
    /// The frames that a body becomes, up to what is wrong with it.
    pub(crate) async fn frames_for_tests(
        &self,
        path: &str,
        body: Body,
    ) -> Vec<Result<Bytes, String>> {
        use http_body_util::BodyExt as _;
        let words = |status: Status| status.to_string();
        let method = &self.methods[path].method;
        let mut frames = Vec::new();
        if !method.is_client_streaming() {
            frames.push(one(Values::new(body), &method.input()).await);
            return frames.into_iter().map(|got| got.map_err(words)).collect();
        }
        match many(Values::new(body), method.input()).await {
            Err(status) => frames.push(Err(status)),
            Ok(mut body) => {
                while let Some(frame) = body.frame().await {
                    frames.push(frame.map(|frame| frame.into_data().unwrap_or_default()));
                }
            }
        }
        frames.into_iter().map(|got| got.map_err(words)).collect()
    }

    /// A frame as JSON and back.
    pub(crate) fn there_and_back_for_tests(&self, path: &str, frame: &Bytes) -> Bytes {
        let input = self.methods[path].method.input();
        let text = to_json(&input, frame.slice(super::frames::PREFIX..)).expect("readable");
        to_frame(&input, &text).expect("readable again")
    }

    /// The lines of an answer.
    pub(crate) async fn lines_for_tests(&self, path: &str, body: Body) -> Vec<Bytes> {
        let output = self.methods[path].method.output();
        let lines = lines(None, Messages::new(body), output);
        let line = |line: Result<Frame<Bytes>, Status>| line.ok()?.into_data().ok();
        lines.filter_map(async |got| line(got)).collect().await
    }
}

/// The HTTP codes of grpc-gateway.
fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_has_a_path() {
        let gateway = Gateway::new();
        assert_eq!(gateway.methods.len(), PATHS.len(), "no path twice");
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("readable");
        let all = pool.services().flat_map(|service| {
            let methods: Vec<_> = service.methods().collect();
            methods
        });
        let all: BTreeSet<_> = all.map(|method| method.full_name().to_owned()).collect();
        let reached = gateway.methods.values();
        let reached: BTreeSet<_> = reached.map(|to| to.method.full_name().to_owned()).collect();
        assert_eq!(reached, all);
    }

    #[test]
    fn both_spellings_are_read_and_the_protos_is_written() {
        let gateway = Gateway::new();
        let put = &gateway.methods["/v3/kv/put"].method;
        let frames = [
            r#"{"key":"Zm9v","value":"YmFy","prevKv":true,"lease":"7"}"#,
            r#"{"key":"Zm9v","value":"YmFy","prev_kv":true,"lease":7,"no_such_field":1}"#,
        ];
        let frames = frames.map(|text| to_frame(&put.input(), text.as_bytes()).expect("readable"));
        assert_eq!(frames[0], frames[1]);
        let message = frames[0].slice(5..);
        let text = to_json(&put.input(), message).expect("writable");
        let expected = r#"{"key":"Zm9v","value":"YmFy","lease":"7","prev_kv":true}"#;
        assert_eq!(String::from_utf8_lossy(&text), expected);
        let alarm = &gateway.methods["/v3/maintenance/alarm"].method;
        let by_name = to_frame(
            &alarm.input(),
            br#"{"action":"ACTIVATE","alarm":"NOSPACE"}"#,
        );
        let by_number = to_frame(&alarm.input(), br#"{"action":1,"alarm":1}"#);
        assert_eq!(by_name.expect("names"), by_number.expect("numbers"));
        for wrong in [r#"{"key":1}"#, r#"{"key":"!"}"#, "[]", r#"{"lease":"x"}"#] {
            let refused = to_frame(&put.input(), wrong.as_bytes()).expect_err(wrong);
            assert_eq!(refused.code(), Code::InvalidArgument, "{wrong}");
        }
    }
}
