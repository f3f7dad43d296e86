//! Questions that clients put to the server about identities and permissions: TokenReview, SelfSubjectReview and the four
//! access reviews.
//!
//! They are computed, never stored. Whether somebody may ask at all is decided before. Invariant: an access review
//! gives the very answer that the filter chain would give, because it asks the same authorizer.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use corten_api::field::{FieldError, FieldPath};
use corten_api::meta::GroupKind;
use corten_api::status::Status;
use serde_json::{Map, Value, json};

use crate::authn::{Authenticator, User};
use crate::authz::live::Live;
use crate::authz::policy::Rule;
use crate::authz::{Attributes, Authorizer, Decision};
use crate::tokens::Tokens;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// The kind that a resource's body has, `None` for resources that are no reviews.
pub fn kind_of(group: &str, resource: &str) -> Option<&'static str> {
    match (group, resource) {
        (AUTHENTICATION, "tokenreviews") => Some("TokenReview"),
        (AUTHENTICATION, "selfsubjectreviews") => Some("SelfSubjectReview"),
        (AUTHORIZATION, "subjectaccessreviews") => Some("SubjectAccessReview"),
        (AUTHORIZATION, "localsubjectaccessreviews") => Some("LocalSubjectAccessReview"),
        (AUTHORIZATION, "selfsubjectaccessreviews") => Some("SelfSubjectAccessReview"),
        (AUTHORIZATION, "selfsubjectrulesreviews") => Some("SelfSubjectRulesReview"),
        _ => None,
    }
}

/// What reviews are answered from.
#[derive(Clone, Copy)]
pub struct Reviewer<'a> {
    /// For TokenReview.
    pub authenticator: &'a Authenticator,
    /// For access reviews.
    pub authorizer: &'a Live,
}

impl Reviewer<'_> {
    /// Fills in the status of a review of the kind.
    pub async fn answer(
        &self,
        kind: &str,
        user: &User,
        namespace: &str,
        mut review: Value,
    ) -> Result<Value, Status> {
        if !review.is_object() {
            return Err(Status::bad_request(format!("the body is not a {kind}")));
        }
        let status = match kind {
            "TokenReview" => self.token(&review["spec"]).await?,
            "SelfSubjectReview" => json!({"userInfo": user_info(user)}),
            "SelfSubjectAccessReview" => self.access(kind, user, &review["spec"])?,
            "SelfSubjectRulesReview" => self.rules(user, &review["spec"])?,
            "SubjectAccessReview" => {
                self.access(kind, &subject(kind, &review["spec"])?, &review["spec"])?
            }
            "LocalSubjectAccessReview" => {
                check_local(kind, namespace, &review)?;
                self.access(kind, &subject(kind, &review["spec"])?, &review["spec"])?
            }
            _ => return Err(Status::no_such_path()),
        };
        let group = if kind.starts_with("Token") || kind == "SelfSubjectReview" {
            AUTHENTICATION
        } else {
            AUTHORIZATION
        };
        review["kind"] = kind.into();
        review["apiVersion"] = format!("{group}/v1").into();
        if !review["metadata"].is_object() {
            review["metadata"] = json!({});
        }
        review["metadata"]["creationTimestamp"] = Value::Null;
        review["status"] = status;
        Ok(review)
    }

    async fn token(&self, spec: &Value) -> Result<Value, Status> {
        let token = spec["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(Status::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let asked = texts(&spec["audiences"]);
        if let Some(user) = self.authenticator.static_tokens.user(token) {
            return Ok(json!({"authenticated": true, "user": user_info(&user)}));
        }
        let Some(tokens) = self
            .authenticator
            .tokens
            .as_ref()
            .filter(|_| Tokens::looks_like_jwt(token))
        else {
            return Ok(json!({"user": {}, "error": "invalid bearer token"}));
        };
        let audiences = if asked.is_empty() {
            tokens.audiences().to_vec()
        } else {
            asked
        };
        Ok(match tokens.verify(token, &audiences).await {
            Ok(verified) => json!({
                "authenticated": true,
                "user": user_info(&verified.user),
                "audiences": verified.audiences,
            }),
            Err(error) => json!({"user": {}, "error": error.to_string()}),
        })
    }

    fn access(&self, kind: &str, user: &User, spec: &Value) -> Result<Value, Status> {
        check_one_question(kind, spec)?;
        let resource = &spec["resourceAttributes"];
        let of = if resource.is_null() {
            &spec["nonResourceAttributes"]
        } else {
            resource
        };
        let text = |field: &str| of[field].as_str().unwrap_or_default();
        let field_selector = selector(&of["fieldSelector"]);
        let label_selector = selector(&of["labelSelector"]);
        let decision = self.authorizer.authorize(&Attributes {
            user,
            verb: text("verb"),
            group: text("group"),
            version: text("version"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            path: text("path"),
            is_resource_request: !resource.is_null(),
            field_selector: field_selector.as_deref(),
            label_selector: label_selector.as_deref(),
        });
        let mut status = Map::new();
        status.insert("allowed".into(), decision.is_allowed().into());
        if matches!(decision, Decision::Deny(_)) {
            status.insert("denied".into(), true.into());
        }
        if !decision.reason().is_empty() {
            status.insert("reason".into(), decision.reason().into());
        }
        Ok(Value::Object(status))
    }

    fn rules(&self, user: &User, spec: &Value) -> Result<Value, Status> {
        let namespace = spec["namespace"].as_str().unwrap_or_default();
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let rules = self.authorizer.rules_for(user, namespace);
        let (urls, resources): (Vec<Rule>, Vec<Rule>) = rules
            .into_iter()
            .partition(|rule| !rule.non_resource_urls.is_empty());
        let values = |rules: Vec<Rule>| rules.iter().map(Rule::to_value).collect::<Vec<_>>();
        Ok(json!({
            "resourceRules": values(resources),
            "nonResourceRules": values(urls),
            // The node authorizer has rights that no list of rules can express.
            "incomplete": user.node_name().is_some(),
        }))
    }
}

fn check_one_question(kind: &str, spec: &Value) -> Result<(), Status> {
    match one_question(spec) {
        Some(error) => Err(invalid(kind, &[error])),
        None => Ok(()),
    }
}

/// A review asks about a resource or about a path, never both.
fn one_question(spec: &Value) -> Option<FieldError> {
    let path = |field: &str| FieldPath::new("spec").child(field);
    let other = &spec["nonResourceAttributes"];
    match (spec["resourceAttributes"].is_null(), other.is_null()) {
        (false, false) => {
            let why = "cannot be specified in combination with resourceAttributes";
            let path = path("nonResourceAttributes");
            Some(FieldError::invalid(&path, other.clone(), why))
        }
        (true, true) => {
            let why =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let path = path("resourceAttributes");
            Some(FieldError::invalid(&path, Value::Null, why))
        }
        _ => None,
    }
}

/// The user that a (Local)SubjectAccessReview asks about.
fn subject(kind: &str, spec: &Value) -> Result<User, Status> {
    let name = spec["user"].as_str().unwrap_or_default().to_owned();
    let groups = texts(&spec["groups"]);
    if name.is_empty() && groups.is_empty() {
        let path = FieldPath::new("spec").child("user");
        let why = "at least one of user or group must be specified";
        let nobody = FieldError::invalid(&path, "", why);
        let errors: Vec<FieldError> = one_question(spec).into_iter().chain([nobody]).collect();
        return Err(invalid(kind, &errors));
    }
    let extra = spec["extra"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.to_lowercase(), texts(values)));
    Ok(User {
        name,
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups,
        extra: extra.collect(),
    })
}

fn check_local(kind: &str, namespace: &str, review: &Value) -> Result<(), Status> {
    let path = FieldPath::new("spec");
    let asked = review["spec"]["resourceAttributes"]["namespace"]
        .as_str()
        .unwrap_or_default();
    if !review["spec"]["nonResourceAttributes"].is_null() {
        let path = path.child("nonResourceAttributes");
        let why = "disallowed on this kind of request";
        return Err(invalid(
            kind,
            &[FieldError::invalid(
                &path,
                review["spec"]["nonResourceAttributes"].clone(),
                why,
            )],
        ));
    }
    if asked != namespace {
        let path = path.child("resourceAttributes").child("namespace");
        return Err(invalid(
            kind,
            &[FieldError::invalid(
                &path,
                asked,
                "must match metadata.namespace",
            )],
        ));
    }
    Ok(())
}

fn invalid(kind: &str, errors: &[FieldError]) -> Status {
    Status::invalid(&GroupKind::new(AUTHORIZATION, kind.to_owned()), "", errors)
}

/// A raw selector, or requirements written out as one.
fn selector(value: &Value) -> Option<String> {
    if let Some(raw) = value["rawSelector"].as_str() {
        return (!raw.is_empty()).then(|| raw.to_owned());
    }
    let terms: Vec<String> = value["requirements"]
        .as_array()?
        .iter()
        .filter_map(requirement)
        .collect();
    (!terms.is_empty()).then(|| terms.join(","))
}

fn requirement(value: &Value) -> Option<String> {
    let key = value["key"].as_str()?;
    let values = texts(&value["values"]);
    match (value["operator"].as_str()?, values.as_slice()) {
        ("In", [one]) => Some(format!("{key}={one}")),
        ("In", several) => Some(format!("{key} in ({})", several.join(","))),
        ("NotIn", [one]) => Some(format!("{key}!={one}")),
        ("NotIn", several) => Some(format!("{key} notin ({})", several.join(","))),
        ("Exists", _) => Some(key.to_owned()),
        ("DoesNotExist", _) => Some(format!("!{key}")),
        _ => None,
    }
}

/// A user as `UserInfo` of the authentication group.
pub fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    info.insert("username".into(), user.name.clone().into());
    if !user.uid.is_empty() {
        info.insert("uid".into(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        let extra: &BTreeMap<String, Vec<String>> = &user.extra;
        info.insert("extra".into(), json!(extra));
    }
    Value::Object(info)
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}
