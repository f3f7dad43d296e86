//! Kubernetes' REST API over the registry: from an HTTP request with an identity to an HTTP response.
//!
//! It does not authenticate, authorize or log; the chain did. It does not decide what happens to objects; the registry does.
//! Invariant: every refusal leaves as a Status in JSON, and a body is read only up to its limit.

mod binary;
pub(crate) mod body;
mod encode;
mod negotiate;
mod pretty;
mod query;
mod stream;
mod table;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use corten_api::status::Status;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use serde_json::Value;

use crate::authn::User;
use crate::chain::respond;
use crate::registry::{Answer, Context, DeleteOptions, PatchKind, Registry, Target};
use crate::request::{Body, Caller, RequestInfo};
use negotiate::Negotiated;
use query::Query;

/// What REST stands on.
#[derive(Clone)]
pub struct Api {
    pub registry: Arc<Registry>,
}

/// Answers a request for a resource. The chain has put a [`Caller`] into the request's extensions.
pub async fn handle(api: &Api, request: Request<Body>) -> Response<Body> {
    let caller = request.extensions().get::<Caller>().cloned();
    let caller = caller.unwrap_or_else(|| Caller {
        // Only reached when somebody wires the server without its chain: then nobody has proved anything.
        info: Arc::new(RequestInfo::resolve(request.method(), request.uri())),
        ..Caller::internal(Arc::new(User::anonymous()), "")
    });
    match respond_to(api, &caller, request).await {
        Ok(response) => response,
        Err(status) => respond::status(&status),
    }
}

/// One request with everything that was read from its head.
struct Call<'a> {
    api: &'a Api,
    target: Target,
    context: Context,
    query: Query,
    accepted: Negotiated,
}

async fn respond_to(
    api: &Api,
    caller: &Caller,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let info = &caller.info;
    if !info.is_resource_request {
        return Err(Status::no_such_path());
    }
    // The name that a field selector pins is for authorization only.
    let name = info.parts.get(1).map_or("", String::as_str);
    let target = Target::resolve(
        &info.api_group,
        &info.api_version,
        &info.resource,
        &info.namespace,
        name,
        &info.subresource,
    )?;
    let query = Query::parse(request.uri().query().unwrap_or(""), &caller.user_agent)?;
    let watching = info.verb == "watch";
    let accepted = negotiate::negotiate(request.headers(), &query, &target, watching)?;
    let context = query.context(caller);
    let call = Call {
        api,
        target,
        context,
        query,
        accepted,
    };
    let mut response = call.dispatch(&info.verb, request).await?;
    if let Some(word) = call.target.descriptor.deprecation() {
        encode::add_warning(&mut response, word);
    }
    Ok(response)
}

impl Call<'_> {
    async fn dispatch(&self, verb: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        let registry = &self.api.registry;
        let (context, target) = (&self.context, &self.target);
        target.check_scope(verb)?;
        match verb {
            "get" => {
                let answer = registry
                    .get(target, self.query.resource_version.as_deref())
                    .await?;
                self.answer(answer)
            }
            "list" => {
                let list = registry.list(target, &self.query.list()).await?;
                encode::list(self, list)
            }
            "watch" => {
                let watch = registry.watch(target, &self.query.watch()).await?;
                Ok(stream::watch(self, watch))
            }
            "create" => {
                let (object, warnings) = self.read_object(request).await?;
                self.answer(
                    registry
                        .create(context, target, object)
                        .await?
                        .warn(warnings),
                )
            }
            "update" => {
                let (object, warnings) = self.read_object(request).await?;
                self.answer(
                    registry
                        .update(context, target, object)
                        .await?
                        .warn(warnings),
                )
            }
            "patch" => {
                let kind = patch_kind(&request)?;
                self.query.check_patch(kind)?;
                let patch = body::read(request.into_body()).await?;
                self.answer(registry.patch(context, target, kind, &patch).await?)
            }
            "delete" => {
                let options = self.read_options(request).await?;
                self.answer(registry.delete(context, target, &options).await?)
            }
            "deletecollection" => {
                let options = self.read_options(request).await?;
                let list = registry
                    .delete_collection(context, target, &self.query.list(), &options)
                    .await?;
                encode::list(self, list)
            }
            _ => Err(Status::method_not_supported()),
        }
    }

    async fn read_object(&self, request: Request<Body>) -> Result<(Value, Vec<String>), Status> {
        let media_type = body::MediaType::of(request.headers())?;
        let bytes = body::read(request.into_body()).await?;
        body::decode(
            &bytes,
            media_type,
            &self.target.gvk(),
            self.context.validation,
        )
    }

    async fn read_options(&self, request: Request<Body>) -> Result<DeleteOptions, Status> {
        let media_type = body::MediaType::of(request.headers())?;
        let bytes = body::read(request.into_body()).await?;
        let mut options = if bytes.is_empty() {
            self.query.delete_options()?
        } else {
            DeleteOptions::from_json(&body::parse(&bytes, media_type)?)?
        };
        options.dry_run |= self.context.dry_run;
        Ok(options)
    }

    fn answer(&self, answer: Answer) -> Result<Response<Body>, Status> {
        encode::answer(self, answer)
    }
}

/// Patches name their language as the body's media type.
fn patch_kind(request: &Request<Body>) -> Result<PatchKind, Status> {
    debug_assert_eq!(request.method(), Method::PATCH);
    let given = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let media_type = given.split(';').next().unwrap_or("").trim();
    match media_type {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply),
        _ => Err(Status::unsupported_media_type([
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ])),
    }
}
