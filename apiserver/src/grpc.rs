//! The gRPC service `corten.api.v1.Resources`: the registry's verbs for Corten's own components.
//!
//! The same verbs, admission and errors as REST, without its negotiation: objects travel as JSON. The chain has authenticated
//! the caller; each call asks the authorizer itself, because only here it is known what it is about. Invariant: no call
//! reaches the registry before the authorizer allowed exactly its verb and target.

mod errors;
#[cfg(test)]
mod tests;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use corten_api::decode::Encoding;
use corten_api::status::Status;
use corten_proto::corten::api::v1::{self as pb, resources_server};
use futures::Stream;
use tonic::{Request, Response};

use crate::audit;
use crate::authn::User;
use crate::authz::{self, Attributes, Authorizer};
use crate::chain::{Place, Reach};
use crate::registry::{
    Answer, Content, Context, DeleteOptions, FieldValidation, ListOptions, PatchKind, Registry,
    RevisionMatch, Target,
};
use crate::request::{Caller, RequestInfo};
use crate::rest::body::{self, MediaType};
use errors::to_grpc;

/// Room for lists; requests are bounded by the registry's own limits.
const REPLY_BYTES_MAX: usize = 1 << 30;
/// The body limit of REST and some room for what surrounds the object.
const REQUEST_BYTES_MAX: usize = (3 << 20) + (64 << 10);

/// See the module's words.
pub struct Resources {
    registry: Arc<Registry>,
    authorizer: Arc<dyn Authorizer>,
}

/// The service as tonic routes, to be mounted behind the chain.
pub fn routes(registry: Arc<Registry>, authorizer: Arc<dyn Authorizer>) -> tonic::service::Routes {
    let service = resources_server::ResourcesServer::new(Resources {
        registry,
        authorizer,
    })
    .max_decoding_message_size(REQUEST_BYTES_MAX)
    .max_encoding_message_size(REPLY_BYTES_MAX);
    tonic::service::Routes::new(service)
}

/// One authorised call.
struct Call {
    target: Target,
    context: Context,
}

impl Resources {
    /// Waits until there is room for the call, and asks whether it is allowed.
    async fn enter<T: Sync>(
        &self,
        request: &Request<T>,
        target: Option<&pb::Target>,
        verb: &str,
        selectors: (&str, &str),
        reach: Reach,
    ) -> Result<Call, Status> {
        let target = target.ok_or_else(|| Status::bad_request("the request names no target"))?;
        let caller = request.extensions().get::<Caller>();
        // Without the chain nobody has proved anything; the authorizer will say no.
        let user = caller.map_or_else(
            || Arc::new(User::anonymous()),
            |caller| Arc::clone(&caller.user),
        );
        let info = info_of(target, verb, selectors);
        if let Some(slot) = request.extensions().get::<audit::Slot>() {
            slot.set(info.clone());
        }
        if let Some(place) = request.extensions().get::<Place>() {
            place.enter(&info, reach).await?;
        }
        authz::require(&*self.authorizer, &Attributes::of_request(&user, &info))?;
        let target = Target::resolve(
            &target.group,
            &target.version,
            &target.resource,
            &target.namespace,
            &target.name,
            &target.subresource,
        )?;
        target.check_scope(verb)?;
        let mut context = Context::new(user);
        // Components are built with the server: a field that it does not know is a fault to be found early.
        context.validation = FieldValidation::Warn;
        Ok(Call { target, context })
    }

    async fn get_one(&self, request: Request<pb::GetRequest>) -> Result<pb::ObjectReply, Status> {
        let message = request.get_ref();
        let call = self
            .enter(&request, message.target.as_ref(), "get", NO_SELECTORS, ONE)
            .await?;
        let revision = Some(message.resource_version.as_str());
        Ok(self.reply(
            &call.target,
            self.registry.get(&call.target, revision).await?,
        ))
    }

    async fn list_all(&self, request: Request<pb::ListRequest>) -> Result<pb::ListReply, Status> {
        let message = request.get_ref();
        let selectors = (
            message.label_selector.as_str(),
            message.field_selector.as_str(),
        );
        let call = self
            .enter(
                &request,
                message.target.as_ref(),
                "list",
                selectors,
                page(message),
            )
            .await?;
        let options = ListOptions {
            label_selector: message.label_selector.clone(),
            field_selector: message.field_selector.clone(),
            limit: message.limit,
            continue_token: message.continue_token.clone(),
            resource_version: Some(message.resource_version.clone()),
            resource_version_match: match message.resource_version_match.as_str() {
                "Exact" => Some(RevisionMatch::Exact),
                "NotOlderThan" => Some(RevisionMatch::NotOlderThan),
                _ => None,
            },
        };
        let list = self.registry.list(&call.target, &options).await?;
        Ok(self.list_reply(&call.target, list))
    }

    async fn create_one(
        &self,
        request: Request<pb::CreateRequest>,
    ) -> Result<pb::ObjectReply, Status> {
        let message = request.get_ref();
        let mut call = self
            .enter(
                &request,
                message.target.as_ref(),
                "create",
                NO_SELECTORS,
                ONE,
            )
            .await?;
        call.write(&message.field_manager, message.dry_run);
        let (object, warnings) = call.decode(&message.object)?;
        let answer = self
            .registry
            .create(&call.context, &call.target, object)
            .await?;
        Ok(self.reply(&call.target, answer.warn(warnings)))
    }

    async fn update_one(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<pb::ObjectReply, Status> {
        let message = request.get_ref();
        let mut call = self
            .enter(
                &request,
                message.target.as_ref(),
                "update",
                NO_SELECTORS,
                ONE,
            )
            .await?;
        call.write(&message.field_manager, message.dry_run);
        let (object, warnings) = call.decode(&message.object)?;
        let answer = self
            .registry
            .update(&call.context, &call.target, object)
            .await?;
        Ok(self.reply(&call.target, answer.warn(warnings)))
    }

    async fn patch_one(
        &self,
        request: Request<pb::PatchRequest>,
    ) -> Result<pb::ObjectReply, Status> {
        let message = request.get_ref();
        let mut call = self
            .enter(
                &request,
                message.target.as_ref(),
                "patch",
                NO_SELECTORS,
                ONE,
            )
            .await?;
        call.write(&message.field_manager, message.dry_run);
        call.context.force = message.force;
        let kind = match message.kind() {
            pb::patch_request::Kind::Json => PatchKind::Json,
            pb::patch_request::Kind::Merge => PatchKind::Merge,
            pb::patch_request::Kind::Strategic => PatchKind::Strategic,
            pb::patch_request::Kind::Apply => PatchKind::Apply,
            pb::patch_request::Kind::Unspecified => {
                return Err(Status::bad_request("the patch has no kind"));
            }
        };
        let answer = self
            .registry
            .patch(&call.context, &call.target, kind, &message.patch)
            .await?;
        Ok(self.reply(&call.target, answer))
    }

    async fn delete_one(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<pb::ObjectReply, Status> {
        let message = request.get_ref();
        let call = self
            .enter(
                &request,
                message.target.as_ref(),
                "delete",
                NO_SELECTORS,
                ONE,
            )
            .await?;
        let options = delete_options(&message.options)?;
        let answer = self
            .registry
            .delete(&call.context, &call.target, &options)
            .await?;
        Ok(self.reply(&call.target, answer))
    }

    async fn delete_all(
        &self,
        request: Request<pb::DeleteCollectionRequest>,
    ) -> Result<pb::ListReply, Status> {
        let message = request.get_ref();
        let selectors = (
            message.label_selector.as_str(),
            message.field_selector.as_str(),
        );
        let call = self
            .enter(
                &request,
                message.target.as_ref(),
                "deletecollection",
                selectors,
                ONE,
            )
            .await?;
        let options = delete_options(&message.options)?;
        let which = ListOptions {
            label_selector: message.label_selector.clone(),
            field_selector: message.field_selector.clone(),
            ..ListOptions::default()
        };
        let list = self
            .registry
            .delete_collection(&call.context, &call.target, &which, &options)
            .await?;
        Ok(self.list_reply(&call.target, list))
    }

    fn reply(&self, target: &Target, answer: Answer) -> pb::ObjectReply {
        let object = match &answer.content {
            Content::Item(item) => watch::object_bytes(&self.registry, target, item.json.clone()),
            Content::Value(value) => Bytes::from(value.to_string()),
            Content::Status(status) => Bytes::from(status.to_json().to_string()),
        };
        pb::ObjectReply {
            object,
            warnings: answer.warnings,
        }
    }

    fn list_reply(&self, target: &Target, list: crate::registry::List) -> pb::ListReply {
        let bytes = |item: &Arc<crate::cache::Item>| {
            watch::object_bytes(&self.registry, target, item.json.clone())
        };
        pb::ListReply {
            resource_version: list.revision.to_string(),
            continue_token: list.continue_token.unwrap_or_default(),
            remaining_item_count: list.remaining.unwrap_or(-1),
            items: list.items.iter().map(bytes).collect(),
        }
    }
}

/// Objects travel as JSON.
const JSON: MediaType = MediaType::Text(Encoding::Json);
const NO_SELECTORS: (&str, &str) = ("", "");
/// Calls that go through no list.
const ONE: Reach = Reach {
    limit: 0,
    from_state: false,
};

fn page(message: &pb::ListRequest) -> Reach {
    Reach {
        limit: usize::try_from(message.limit).unwrap_or_default(),
        ..ONE
    }
}

impl Call {
    fn write(&mut self, field_manager: &str, dry_run: bool) {
        field_manager.clone_into(&mut self.context.field_manager);
        self.context.dry_run = dry_run;
    }

    fn decode(&self, object: &[u8]) -> Result<(serde_json::Value, Vec<String>), Status> {
        body::decode(object, JSON, &self.target.gvk(), self.context.validation)
    }
}

fn delete_options(json: &[u8]) -> Result<DeleteOptions, Status> {
    if json.is_empty() {
        return Ok(DeleteOptions::default());
    }
    DeleteOptions::from_json(&body::parse(json, JSON)?)
}

/// The same words that the REST path would give.
fn info_of(target: &pb::Target, verb: &str, selectors: (&str, &str)) -> RequestInfo {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let namespace = if target.resource == "namespaces" && target.group.is_empty() {
        target.name.clone()
    } else {
        target.namespace.clone()
    };
    RequestInfo {
        is_resource_request: true,
        verb: verb.to_owned(),
        api_prefix: if target.group.is_empty() {
            "api"
        } else {
            "apis"
        }
        .to_owned(),
        api_group: target.group.clone(),
        api_version: target.version.clone(),
        namespace,
        resource: target.resource.clone(),
        subresource: target.subresource.clone(),
        name: target.name.clone(),
        label_selector: some(selectors.0),
        field_selector: some(selectors.1),
        ..RequestInfo::default()
    }
}

#[tonic::async_trait]
impl resources_server::Resources for Resources {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchReply, tonic::Status>> + Send>>;

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<pb::ObjectReply>, tonic::Status> {
        Box::pin(self.get_one(request))
            .await
            .map(Response::new)
            .map_err(to_grpc)
    }

    async fn list(
        &self,
        request: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListReply>, tonic::Status> {
        Box::pin(self.list_all(request))
            .await
            .map(Response::new)
            .map_err(to_grpc)
    }

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, tonic::Status> {
        let message = request.get_ref();
        let selectors = (
            message.label_selector.as_str(),
            message.field_selector.as_str(),
        );
        let reach = Reach {
            from_state: message.resource_version.is_empty(),
            ..Reach::default()
        };
        let target = message.target.as_ref();
        let entered = self.enter(&request, target, "watch", selectors, reach);
        let call = entered.await.map_err(to_grpc)?;
        let stream = watch::open(&self.registry, call.target, message)
            .await
            .map_err(to_grpc)?;
        Ok(Response::new(stream))
    }

    async fn create(
        &self,
        request: Request<pb::CreateRequest>,
    ) -> Result<Response<pb::ObjectReply>, tonic::Status> {
        Box::pin(self.create_one(request))
            .await
            .map(Response::new)
            .map_err(to_grpc)
    }

    async fn update(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<Response<pb::ObjectReply>, tonic::Status> {
        Box::pin(self.update_one(request))
            .await
            .map(Response::new)
            .map_err(to_grpc)
    }

    async fn patch(
        &self,
        request: Request<pb::PatchRequest>,
    ) -> Result<Response<pb::ObjectReply>, tonic::Status> {
        Box::pin(self.patch_one(request))
            .await
            .map(Response::new)
            .map_err(to_grpc)
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::ObjectReply>, tonic::Status> {
        Box::pin(self.delete_one(request))
            .await
            .map(Response::new)
            .map_err(to_grpc)
    }

    async fn delete_collection(
        &self,
        request: Request<pb::DeleteCollectionRequest>,
    ) -> Result<Response<pb::ListReply>, tonic::Status> {
        Box::pin(self.delete_all(request))
            .await
            .map(Response::new)
            .map_err(to_grpc)
    }
}
