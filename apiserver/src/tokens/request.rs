//! The subresource serviceaccounts/token: issuing tokens.
//!
//! Authorization is done before; here the objects to bind to are checked. Invariant: nothing is signed about an object
//! that does not exist, or about a pod that runs under another account or, for a node agent, on another node.

use corten_api::field::{FieldError, FieldPath};
use corten_api::meta::{GroupKind, GroupResource};
use corten_api::status::Status;
use serde_json::{Map, Value, json};

use super::{Tokens, USER_PREFIX};
use crate::authn::User;
use crate::authz::restriction;
use crate::chain::objects::Resource;

/// An hour, when the client does not say.
const EXPIRATION_DEFAULT: i64 = 3600;
/// Shorter tokens would be renewed all the time.
const EXPIRATION_MIN: i64 = 600;
/// What fits into the field.
const EXPIRATION_MAX: i64 = 1 << 32;

impl Tokens {
    /// Answers a TokenRequest with the object, its status filled in.
    pub async fn request(
        &self,
        user: &User,
        namespace: &str,
        name: &str,
        mut request: Value,
    ) -> Result<Value, Status> {
        let accounts = GroupResource::new("", "serviceaccounts");
        self.check_names(namespace, name, &mut request)?;
        check_node(user, name, &request)?;
        // As new as what the client has seen: the account and the pod may be a moment old. What is read below is as new.
        let account = self
            .objects
            .latest(Resource::core("serviceaccounts"), namespace, name)
            .await?
            .ok_or_else(|| Status::not_found(&accounts, name))?;
        let seconds = self.expiration(&request)?;
        let audiences = self.requested_audiences(&request);
        let mut private = Map::new();
        private.insert("namespace".into(), namespace.into());
        private.insert(
            "serviceaccount".into(),
            json!({"name": name, "uid": account["metadata"]["uid"]}),
        );
        self.bind(
            user,
            namespace,
            name,
            &request["spec"]["boundObjectRef"],
            &mut private,
        )
        .await?;

        let now = self.clock.wall().as_second();
        let claims = json!({
            "aud": audiences,
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": private,
            "nbf": now,
            "sub": format!("{USER_PREFIX}{namespace}:{name}"),
        });
        let expires = jiff::Timestamp::from_second(now + seconds).map_err(Status::internal)?;
        request["kind"] = "TokenRequest".into();
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["metadata"]["creationTimestamp"] = self
            .clock
            .wall()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string()
            .into();
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = seconds.into();
        request["status"] = json!({
            "token": self.keys.sign(&claims),
            "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        Ok(request)
    }

    fn check_names(&self, namespace: &str, name: &str, request: &mut Value) -> Result<(), Status> {
        if !request.is_object() {
            return Err(Status::bad_request("the body is not a TokenRequest"));
        }
        for (field, wanted) in [("namespace", namespace), ("name", name)] {
            let given = request["metadata"][field].as_str().unwrap_or_default();
            if !given.is_empty() && given != wanted {
                let message = format!(
                    "the {field} of the TokenRequest ({given}) does not match the URL ({wanted})"
                );
                return Err(Status::bad_request(message));
            }
            request["metadata"][field] = wanted.into();
        }
        Ok(())
    }

    fn requested_audiences(&self, request: &Value) -> Vec<String> {
        let asked = request["spec"]["audiences"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        match asked {
            [] => self.audiences.clone(),
            some => some
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect(),
        }
    }

    fn expiration(&self, request: &Value) -> Result<i64, Status> {
        let seconds = request["spec"]["expirationSeconds"]
            .as_i64()
            .unwrap_or(EXPIRATION_DEFAULT);
        let complaint = match seconds {
            ..EXPIRATION_MIN => "may not specify a duration less than 10 minutes",
            EXPIRATION_MIN..=EXPIRATION_MAX => return Ok(seconds),
            _ => "may not specify a duration larger than 2^32 seconds",
        };
        let path = FieldPath::new("spec").child("expirationSeconds");
        let kind = GroupKind::new("authentication.k8s.io", "TokenRequest");
        Err(Status::invalid(
            &kind,
            "",
            &[FieldError::invalid(&path, seconds, complaint)],
        ))
    }

    async fn bind(
        &self,
        user: &User,
        namespace: &str,
        account: &str,
        reference: &Value,
        private: &mut Map<String, Value>,
    ) -> Result<(), Status> {
        if reference.is_null() {
            return Ok(());
        }
        let (claim, resource) = match (reference["apiVersion"].as_str(), reference["kind"].as_str())
        {
            (Some("v1"), Some("Pod")) => ("pod", "pods"),
            (Some("v1"), Some("Secret")) => ("secret", "secrets"),
            (Some("v1"), Some("Node")) => ("node", "nodes"),
            (version, kind) => {
                let (version, kind) = (version.unwrap_or_default(), kind.unwrap_or_default());
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {version}, Kind={kind}"
                )));
            }
        };
        let name = reference["name"].as_str().unwrap_or_default();
        let within = if resource == "nodes" { "" } else { namespace };
        let group_resource = GroupResource::new("", resource);
        let object = self
            .objects
            .get(Resource::core(resource), within, name)
            .await?
            .ok_or_else(|| Status::not_found(&group_resource, name))?;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let wanted = reference["uid"].as_str().unwrap_or_default();
        if !wanted.is_empty() && wanted != uid {
            let why = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            );
            return Err(Status::conflict(&group_resource, name, &why));
        }
        private.insert(claim.into(), json!({"name": name, "uid": uid}));
        if claim == "pod" {
            self.bind_node_of(user, account, &object, private).await?;
        }
        Ok(())
    }

    async fn bind_node_of(
        &self,
        user: &User,
        account: &str,
        pod: &Value,
        private: &mut Map<String, Value>,
    ) -> Result<(), Status> {
        let pods = GroupResource::new("", "pods");
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        if pod["spec"]["serviceAccountName"] != account {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if user.node_name().is_some_and(|own| own != node) {
            let why = "node requested token bound to a pod scheduled on a different node";
            return Err(Status::forbidden(Some(&pods), name, why));
        }
        if !node.is_empty()
            && let Some(object) = self.objects.get(Resource::core("nodes"), "", node).await?
        {
            private.insert(
                "node".into(),
                json!({"name": node, "uid": object["metadata"]["uid"]}),
            );
        }
        Ok(())
    }
}

/// What NodeRestriction says about the request.
fn check_node(user: &User, name: &str, request: &Value) -> Result<(), Status> {
    let write = restriction::Write {
        user,
        operation: restriction::Operation::Create,
        group: "",
        resource: "serviceaccounts",
        subresource: "token",
        name,
        old: None,
        new: Some(request),
    };
    let accounts = GroupResource::new("", "serviceaccounts");
    restriction::check(&write).map_err(|why| Status::forbidden(Some(&accounts), name, &why))
}
