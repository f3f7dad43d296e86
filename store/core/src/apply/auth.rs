//! The commands of users and roles, and the check of everything that a user asks for.
//! Not tokens, not passwords: a password is a hash before it comes here.
//! Invariant: what is decided here is decided on the state in which the entry is applied, so that a permission revoked by
//! an earlier entry is revoked, whatever the proposer knew.

use bytes::Bytes;
use corten_proto::{
    corten::store::v1::{
        AuthCommand, AuthEnable, AuthUser, AuthUserPassword, RaftRequest, auth_command,
        raft_request::Command,
    },
    etcd::{
        authpb::{Permission, Role},
        etcdserverpb::{
            AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
            AuthRoleRevokePermissionRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
            AuthUserRevokeRoleRequest,
        },
    },
};
use std::sync::Arc;

use super::Work;
use crate::{
    auth::{self, Auth, Caller, ROOT},
    error::Error,
    ids::LeaseId,
    lease_rows,
    span::Span,
};

impl Work {
    /// Whether who asks may have this done. Called only while auth is on. What members do on their own account (leases
    /// that ran out, checkpoints, alarms, compaction by itself) names nobody; services check a client's before.
    pub(super) fn authorize(&self, request: &RaftRequest, command: &Command) -> Result<(), Error> {
        let caller = Caller {
            user: &request.user,
            revision: request.auth_revision,
        };
        let auth = &self.auth;
        let lease_keys = |id: i64| Ok(lease_rows::keys(&self.view, LeaseId(id))?);
        match command {
            Command::Put(put) => auth.check_put(caller, put, &lease_keys),
            Command::DeleteRange(delete) => {
                let span = Span::new(&delete.key, &delete.range_end);
                auth.check_write(caller, &span)?;
                if delete.prev_kv {
                    auth.check_read(caller, &span)?;
                }
                Ok(())
            }
            Command::Txn(txn) => auth.check_txn(caller, txn, &lease_keys),
            Command::LeaseGrant(_) => auth.check_known(caller),
            // Expiry is the leader's own; nobody's service sets it.
            Command::LeaseRevoke(revoke) if revoke.expired => Ok(()),
            Command::LeaseRevoke(revoke) => revoke
                .ids
                .iter()
                .try_for_each(|id| auth.check_lease(caller, || lease_keys(*id))),
            Command::Auth(_) => auth.check_root(caller),
            Command::Compact(_)
            | Command::LeaseCheckpoint(_)
            | Command::Alarm(_)
            | Command::ClusterLevel(_)
            | Command::Noop(_) => Ok(()),
        }
    }

    /// Changes users and roles. As in etcd each change counts, but for enabling and for granting what is granted.
    pub(super) fn auth_command(&mut self, command: &AuthCommand) -> Result<(), Error> {
        use auth_command::Command as C;
        match command.command.as_ref().ok_or(Error::UnknownCommand)? {
            C::Enable(enable) => self.auth_enable(enable),
            C::Disable(_) => {
                if self.auth.enabled {
                    let auth = self.auth_changed();
                    auth.enabled = false;
                    auth.token_key = Bytes::new();
                }
                Ok(())
            }
            C::UserAdd(request) => self.user_add(request),
            C::UserDelete(request) => self.user_delete(request),
            C::UserChangePassword(request) => self.user_change_password(request),
            C::UserGrantRole(request) => self.user_grant_role(request),
            C::UserRevokeRole(request) => self.user_revoke_role(request),
            C::RoleAdd(request) => self.role_add(request),
            C::RoleDelete(request) => self.role_delete(request),
            C::RoleGrantPermission(request) => self.role_grant(request),
            C::RoleRevokePermission(request) => self.role_revoke(request),
        }?;
        // The head is small, and one place that writes it cannot be forgotten.
        auth::put_head(&mut self.view.batch, &self.auth);
        Ok(())
    }

    /// The state to change, already at its next revision.
    fn auth_changed(&mut self) -> &mut Auth {
        let auth = Arc::make_mut(&mut self.auth);
        auth.revision += 1;
        auth
    }

    fn auth_enable(&mut self, request: &AuthEnable) -> Result<(), Error> {
        if self.auth.enabled {
            return Ok(());
        }
        let root = self.auth.user(ROOT).ok_or(Error::RootUserNotExist)?;
        if !root.roles.iter().any(|role| role == ROOT) {
            return Err(Error::RootRoleNotExist);
        }
        let auth = Arc::make_mut(&mut self.auth);
        auth.enabled = true;
        auth.token_key = request.token_key.clone();
        Ok(())
    }

    fn user_add(&mut self, request: &AuthUserPassword) -> Result<(), Error> {
        if request.name.is_empty() {
            return Err(Error::UserEmpty);
        }
        if self.auth.user(&request.name).is_some() {
            return Err(Error::UserExists);
        }
        let user = AuthUser {
            password_hash: request.password_hash.clone(),
            no_password: request.no_password,
            roles: Vec::new(),
            since: self.auth.revision + 1,
        };
        self.set_user(&request.name, user);
        Ok(())
    }

    fn user_delete(&mut self, request: &AuthUserDeleteRequest) -> Result<(), Error> {
        if self.auth.enabled && request.name == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        self.known_user(&request.name)?;
        auth::delete_user(&mut self.view.batch, &request.name);
        let auth = self.auth_changed();
        auth.users.remove(&request.name);
        auth.merge();
        Ok(())
    }

    fn user_change_password(&mut self, request: &AuthUserPassword) -> Result<(), Error> {
        let mut user = self.known_user(&request.name)?;
        if !user.no_password {
            user.password_hash.clone_from(&request.password_hash);
        }
        user.since = self.auth.revision + 1;
        self.set_user(&request.name, user);
        Ok(())
    }

    fn user_grant_role(&mut self, request: &AuthUserGrantRoleRequest) -> Result<(), Error> {
        let mut user = self.known_user(&request.user)?;
        // The root role need not be there to be granted.
        if request.role != ROOT {
            self.known_role(&request.role)?;
        }
        let Err(place) = user.roles.binary_search(&request.role) else {
            return Ok(());
        };
        user.roles.insert(place, request.role.clone());
        self.set_user(&request.user, user);
        Ok(())
    }

    fn user_revoke_role(&mut self, request: &AuthUserRevokeRoleRequest) -> Result<(), Error> {
        if self.auth.enabled && request.name == ROOT && request.role == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        let mut user = self.known_user(&request.name)?;
        let before = user.roles.len();
        user.roles.retain(|role| *role != request.role);
        if user.roles.len() == before {
            return Err(Error::RoleNotGranted);
        }
        self.set_user(&request.name, user);
        Ok(())
    }

    fn role_add(&mut self, request: &AuthRoleAddRequest) -> Result<(), Error> {
        if request.name.is_empty() {
            return Err(Error::RoleEmpty);
        }
        if self.auth.role(&request.name).is_some() {
            return Err(Error::RoleExists);
        }
        let role = Role {
            name: request.name.clone().into(),
            key_permission: Vec::new(),
        };
        self.set_role(&request.name, role);
        Ok(())
    }

    fn role_delete(&mut self, request: &AuthRoleDeleteRequest) -> Result<(), Error> {
        if self.auth.enabled && request.role == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        self.known_role(&request.role)?;
        auth::delete_role(&mut self.view.batch, &request.role);
        let auth = Arc::make_mut(&mut self.auth);
        auth.revision += 1;
        auth.roles.remove(&request.role);
        for (name, user) in &mut auth.users {
            if user.roles.contains(&request.role) {
                user.roles.retain(|role| *role != request.role);
                auth::put_user(&mut self.view.batch, name, user);
            }
        }
        auth.merge();
        Ok(())
    }

    fn role_grant(&mut self, request: &AuthRoleGrantPermissionRequest) -> Result<(), Error> {
        let wanted = request.perm.as_ref().ok_or(Error::PermissionNotGiven)?;
        if wanted.key.is_empty() || Span::new(&wanted.key, &wanted.range_end).is_empty() {
            return Err(Error::InvalidAuthMgmt);
        }
        let mut role = self.known_role(&request.name)?;
        let order =
            |perm: &Permission| (&perm.key, &perm.range_end).cmp(&(&wanted.key, &wanted.range_end));
        match role.key_permission.binary_search_by(order) {
            Ok(at) => role.key_permission[at].perm_type = wanted.perm_type,
            Err(at) => role.key_permission.insert(at, wanted.clone()),
        }
        self.set_role(&request.name, role);
        Ok(())
    }

    fn role_revoke(&mut self, request: &AuthRoleRevokePermissionRequest) -> Result<(), Error> {
        let mut role = self.known_role(&request.role)?;
        let before = role.key_permission.len();
        role.key_permission
            .retain(|perm| perm.key != request.key || perm.range_end != request.range_end);
        if role.key_permission.len() == before {
            return Err(Error::PermissionNotGranted);
        }
        self.set_role(&request.role, role);
        Ok(())
    }

    fn known_user(&self, name: &str) -> Result<AuthUser, Error> {
        self.auth.user(name).cloned().ok_or(Error::UserNotFound)
    }

    fn known_role(&self, name: &str) -> Result<Role, Error> {
        self.auth.role(name).cloned().ok_or(Error::RoleNotFound)
    }

    fn set_user(&mut self, name: &str, user: AuthUser) {
        auth::put_user(&mut self.view.batch, name, &user);
        let auth = self.auth_changed();
        auth.users.insert(name.to_owned(), user);
        auth.merge();
    }

    fn set_role(&mut self, name: &str, role: Role) {
        auth::put_role(&mut self.view.batch, name, &role);
        let auth = self.auth_changed();
        auth.roles.insert(name.to_owned(), role);
        auth.merge();
    }
}
