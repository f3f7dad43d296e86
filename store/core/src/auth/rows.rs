//! Users and roles as rows of the backend.
//! Not what they mean.
//! Invariant: what is loaded is what was put; a state without any of these rows is one where auth was never touched.

use bytes::Bytes;
use corten_proto::{
    corten::store::v1::{AuthHead, AuthUser},
    etcd::authpb::Role,
};
use prost::Message as _;

use super::Auth;
use crate::{
    backend::{BackendError, Batch, Keyspace, Read, Result},
    codec,
};

/// Reads everything.
pub(crate) fn load(view: &dyn Read) -> Result<Auth> {
    let mut auth = Auth::default();
    if let Some(row) = view.get(Keyspace::Meta, codec::META_AUTH)? {
        let head = AuthHead::decode(row).map_err(|error| BackendError::new("auth row", error))?;
        auth.enabled = head.enabled;
        auth.revision = head.revision;
        auth.token_key = head.token_key;
    }
    each(view, codec::META_USER, |name, row| {
        let user = AuthUser::decode(row).map_err(|error| BackendError::new("user row", error))?;
        auth.users.insert(name, user);
        Ok(())
    })?;
    each(view, codec::META_ROLE, |name, row| {
        let role = Role::decode(row).map_err(|error| BackendError::new("role row", error))?;
        auth.roles.insert(name, role);
        Ok(())
    })?;
    auth.merge();
    Ok(auth)
}

fn each(
    view: &dyn Read,
    kind: u8,
    mut take: impl FnMut(String, Bytes) -> Result<()>,
) -> Result<()> {
    let mut cursor = view.scan(Keyspace::Meta, &[kind], Some(&[kind + 1]))?;
    while let Some(row) = cursor.key() {
        let name = String::from_utf8(row[1..].to_vec())
            .map_err(|error| BackendError::new("name of a user or role", error))?;
        take(name, cursor.value_bytes())?;
        cursor.advance()?;
    }
    Ok(())
}

/// Writes what is neither user nor role.
pub(crate) fn put_head(batch: &mut Batch, auth: &Auth) {
    let head = AuthHead {
        enabled: auth.enabled,
        revision: auth.revision,
        token_key: auth.token_key.clone(),
    };
    batch.put(Keyspace::Meta, codec::META_AUTH, head.encode_to_vec());
}

/// Writes a user.
pub(crate) fn put_user(batch: &mut Batch, name: &str, user: &AuthUser) {
    let row = codec::auth_row(codec::META_USER, name);
    batch.put(Keyspace::Meta, row, user.encode_to_vec());
}

/// Removes a user.
pub(crate) fn delete_user(batch: &mut Batch, name: &str) {
    batch.delete(Keyspace::Meta, codec::auth_row(codec::META_USER, name));
}

/// Writes a role.
pub(crate) fn put_role(batch: &mut Batch, name: &str, role: &Role) {
    let row = codec::auth_row(codec::META_ROLE, name);
    batch.put(Keyspace::Meta, row, role.encode_to_vec());
}

/// Removes a role.
pub(crate) fn delete_role(batch: &mut Batch, name: &str) {
    batch.delete(Keyspace::Meta, codec::auth_row(codec::META_ROLE, name));
}
