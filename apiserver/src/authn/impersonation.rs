//! Acting as somebody else: `Impersonate-*` headers, each checked by authorization.
//!
//! It is for people and tests (`kubectl --as`), not for components. Invariant: the resulting identity holds only what
//! headers asked for and rules allowed; nothing of the real user leaks into it.

use std::collections::BTreeMap;

use corten_api::status::Status;
use http::HeaderMap;

use super::{GROUP_AUTHENTICATED, GROUP_UNAUTHENTICATED, USER_ANONYMOUS, User};
use crate::authz::{self, Attributes, Authorizer};
use crate::request;
use crate::tokens;

const HEADER_USER: &str = "impersonate-user";
const HEADER_GROUP: &str = "impersonate-group";
const HEADER_UID: &str = "impersonate-uid";
const HEADER_EXTRA: &str = "impersonate-extra-";
const GROUP_AUTHENTICATION: &str = "authentication.k8s.io";

/// The wanted identity, `None` when no header asks for one.
pub fn resolve(
    headers: &HeaderMap,
    user: &User,
    authorizer: &dyn Authorizer,
) -> Result<Option<User>, Status> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(None);
    };
    let require = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let question = Attributes::resource(user, "impersonate", group, resource)
            .in_namespace(namespace)
            .named(name)
            .with_subresource(subresource);
        authz::require(authorizer, &question)
    };
    let account = wanted
        .name
        .strip_prefix(tokens::USER_PREFIX)
        .and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, name)) => require("", "serviceaccounts", "", namespace, name)?,
        None => require("", "users", "", "", &wanted.name)?,
    }
    for group in &wanted.groups {
        require("", "groups", "", "", group)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            require(GROUP_AUTHENTICATION, "userextras", key, "", value)?;
        }
    }
    if !wanted.uid.is_empty() {
        require(GROUP_AUTHENTICATION, "uids", "", "", &wanted.uid)?;
    }
    Ok(Some(with_usual_groups(wanted)))
}

fn account_namespace(user: &str) -> Option<&str> {
    user.strip_prefix(tokens::USER_PREFIX)?
        .split_once(':')
        .map(|(namespace, _)| namespace)
}

fn with_usual_groups(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some(namespace) = account_namespace(&user.name)
    {
        user.groups.extend(tokens::groups_of(namespace));
    }
    let usual = if user.name == USER_ANONYMOUS {
        GROUP_UNAUTHENTICATED
    } else {
        GROUP_AUTHENTICATED
    };
    if !user.in_group(GROUP_AUTHENTICATED) && !user.in_group(GROUP_UNAUTHENTICATED) {
        user.groups.push(usual.to_owned());
    }
    user
}

fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let text = |value: &http::HeaderValue| {
        let text = value
            .to_str()
            .map_err(|_| Status::bad_request("an impersonation header is not text"))?;
        Ok::<_, Status>(text.to_owned())
    };
    let name = headers
        .get(HEADER_USER)
        .map(text)
        .transpose()?
        .unwrap_or_default();
    let groups = headers
        .get_all(HEADER_GROUP)
        .iter()
        .map(text)
        .collect::<Result<Vec<_>, _>>()?;
    let uid = headers
        .get(HEADER_UID)
        .map(text)
        .transpose()?
        .unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix(HEADER_EXTRA) {
            let key = request::decode(key).to_lowercase();
            extra.entry(key).or_default().push(text(value)?);
        }
    }
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::bad_request(
            "requested groups, a uid or extra without impersonating a user",
        ));
    }
    Ok(Some(User {
        name,
        uid,
        groups,
        extra,
    }))
}

/// Takes the headers away, so that nothing behind can read them as facts.
pub fn strip(headers: &mut HeaderMap) {
    let found: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}
