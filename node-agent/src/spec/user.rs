//! Who a container runs as: the security context over the image's `USER`, names resolved through the image's own
//! /etc/passwd and /etc/group. Pure over the text of those files.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::SpecError;

/// Numbers for the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name, uid, gid })
    })
}

fn groups(group: &str) -> impl Iterator<Item = (&str, u32, Vec<&str>)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("").split(',').collect()))
    })
}

/// Resolves the user of a container.
#[expect(
    clippy::too_many_lines,
    reason = "the order of precedence reads top to bottom"
)]
pub fn resolve(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    passwd: &str,
    group: &str,
) -> Result<ResolvedUser, SpecError> {
    let pod_context = pod
        .spec
        .as_ref()
        .and_then(|s| s.security_context.clone())
        .unwrap_or_default();
    let context = container.security_context.clone().unwrap_or_default();
    let (image_name, image_group) = match image_user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (image_user, None),
    };
    let wanted_uid = context.run_as_user.or(pod_context.run_as_user);
    let wanted_gid = context.run_as_group.or(pod_context.run_as_group);
    let account = |uid: u32| accounts(passwd).find(|account| account.uid == uid);
    let (uid, named) = match wanted_uid {
        Some(uid) => (number(uid)?, true),
        None if image_name.is_empty() => (0, true),
        None => match image_name.parse::<u32>() {
            Ok(uid) => (uid, true),
            Err(_) => {
                let found = accounts(passwd).find(|account| account.name == image_name);
                let found = found.ok_or_else(|| {
                    SpecError::Create(format!(
                        "unable to find user {image_name}: no matching entries in passwd file"
                    ))
                })?;
                (found.uid, false)
            }
        },
    };
    check_non_root(
        &context.run_as_non_root.or(pod_context.run_as_non_root),
        uid,
        named,
        container,
        image_name,
    )?;
    let user_name = account(uid).map(|account| account.name);
    let gid = match (wanted_gid, wanted_uid, image_group) {
        (Some(gid), _, _) => number(gid)?,
        (None, None, Some(name)) if !name.is_empty() => match name.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => groups(group)
                .find(|(known, ..)| *known == name)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| {
                    SpecError::Create(format!(
                        "unable to find group {name}: no matching entries in group file"
                    ))
                })?,
        },
        _ => account(uid).map_or(0, |account| account.gid),
    };
    let mut additional_gids = Vec::new();
    if pod_context.supplemental_groups_policy.as_deref() != Some("Strict") {
        additional_gids.push(gid);
        if let Some(name) = user_name {
            additional_gids.extend(
                groups(group)
                    .filter(|(_, _, members)| members.contains(&name))
                    .map(|(_, gid, _)| gid),
            );
        }
    }
    let extra = pod_context
        .supplemental_groups
        .iter()
        .flatten()
        .chain(pod_context.fs_group.iter());
    for gid in extra {
        additional_gids.push(number(*gid)?);
    }
    additional_gids.sort_unstable();
    additional_gids.dedup();
    Ok(ResolvedUser {
        uid,
        gid,
        additional_gids,
    })
}

fn check_non_root(
    non_root: &Option<bool>,
    uid: u32,
    numeric: bool,
    container: &Container,
    image_name: &str,
) -> Result<(), SpecError> {
    if *non_root != Some(true) {
        return Ok(());
    }
    if !numeric {
        return Err(SpecError::Config(format!(
            "container has runAsNonRoot and image has non-numeric user ({image_name}), cannot verify user is non-root"
        )));
    }
    if uid == 0 {
        let by_spec = container
            .security_context
            .as_ref()
            .is_some_and(|c| c.run_as_user == Some(0));
        let cause = if by_spec {
            "container's runAsUser breaks non-root policy"
        } else {
            "container has runAsNonRoot and image will run as root"
        };
        return Err(SpecError::Config(cause.to_owned()));
    }
    Ok(())
}

fn number(id: i64) -> Result<u32, SpecError> {
    u32::try_from(id).map_err(|_| SpecError::Config(format!("{id} is not a user or group number")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nextra:x:200:other,web\n";

    fn check(
        pod: serde_json::Value,
        container: serde_json::Value,
        image: &str,
    ) -> Result<ResolvedUser, String> {
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": [], "securityContext": pod}}))
                .expect("pod");
        let container: Container =
            serde_json::from_value(json!({"name": "c", "securityContext": container}))
                .expect("container");
        resolve(&pod, &container, image, PASSWD, GROUP).map_err(|error| error.to_string())
    }

    fn user(uid: u32, gid: u32, additional: &[u32]) -> Result<ResolvedUser, String> {
        Ok(ResolvedUser {
            uid,
            gid,
            additional_gids: additional.to_vec(),
        })
    }

    #[test]
    fn table() {
        assert_eq!(check(json!({}), json!({}), ""), user(0, 0, &[0]));
        assert_eq!(
            check(json!({}), json!({}), "web"),
            user(101, 102, &[102, 200])
        );
        assert_eq!(check(json!({}), json!({}), "5:extra"), user(5, 200, &[200]));
        assert_eq!(
            check(json!({"runAsUser": 7, "fsGroup": 9}), json!({}), "web:web"),
            user(7, 0, &[0, 9])
        );
        assert_eq!(
            check(
                json!({"runAsUser": 7, "runAsGroup": 8, "supplementalGroups": [3]}),
                json!({"runAsUser": 101}),
                ""
            ),
            user(101, 8, &[3, 8, 200])
        );
        assert!(check(json!({"runAsNonRoot": true}), json!({}), "").is_err());
        assert!(check(json!({"runAsNonRoot": true}), json!({}), "web").is_err());
        assert_eq!(
            check(json!({"runAsNonRoot": true}), json!({}), "101"),
            user(101, 102, &[102, 200])
        );
        assert!(check(json!({}), json!({}), "nobody").is_err());
    }
}
