//! The Auth service: users, roles, and tokens for them.
//!
//! Not who may do what; that is the core's. Invariant: a password never leaves this member, only its hash does.

use corten_proto::corten::store::v1::{self as own, auth_command, raft_request::Command};
use corten_proto::etcd::authpb::{Permission, permission::Type};
use corten_proto::etcd::etcdserverpb::{self as pb, auth_server};
use corten_store_core::Error;
use corten_store_core::auth::{self as rules, ROOT};
use rand::RngCore as _;
use tonic::{Request, Response, Status};

use super::access::Origin;
use super::context::{Context, refused};

/// As long as what it makes.
const TOKEN_KEY_BYTES: usize = 32;

pub(super) struct Auth(pub(super) Context);

impl Auth {
    /// Agrees on a change. That root asks is looked at first as well, so that nobody else costs a hash or an entry.
    async fn change(
        &self,
        origin: &Origin,
        change: auth_command::Command,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        let command = Some(change);
        let command = Command::Auth(own::AuthCommand { command });
        let (revision, _) = self.0.propose_for(origin, command).await?;
        Ok(self.0.header(revision))
    }

    async fn root(&self, origin: &Origin) -> Result<(), Status> {
        self.0.read_barrier().await?;
        self.0.permit_root(origin).await
    }

    async fn hash(&self, password: String) -> Result<String, Status> {
        self.0.passwords().hash(password).await
    }
}

#[tonic::async_trait]
impl auth_server::Auth for Auth {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let (origin, _) = Origin::split(request);
        let mut token_key = vec![0; TOKEN_KEY_BYTES];
        rand::rng().fill_bytes(&mut token_key);
        let token_key = token_key.into();
        let change = auth_command::Command::Enable(own::AuthEnable { token_key });
        let header = self.change(&origin, change).await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let (origin, request) = Origin::split(request);
        let change = auth_command::Command::Disable(request);
        let header = self.change(&origin, change).await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let (origin, _) = Origin::split(request);
        self.root(&origin).await?;
        let auth = self.0.store().auth();
        Ok(Response::new(pb::AuthStatusResponse {
            header: self.0.header_now(),
            enabled: auth.is_enabled(),
            auth_revision: auth.revision(),
        }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let token = self.0.login(&name, password).await?;
        Ok(Response::new(pb::AuthenticateResponse {
            header: self.0.header_now(),
            token,
        }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.root(&origin).await?;
        let no_password = request.options.is_some_and(|options| options.no_password);
        let password_hash = if no_password {
            String::new()
        } else {
            self.hash(request.password).await?
        };
        let change = auth_command::Command::UserAdd(own::AuthUserPassword {
            name: request.name,
            password_hash,
            no_password,
        });
        let header = self.change(&origin, change).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.0.read_barrier().await?;
        // Everybody may look at itself.
        let permit = self.0.permit(&origin, |_, auth, caller| {
            let own = caller.user == request.name && !caller.user.is_empty();
            auth.check_root(caller).or_else(|error| match error {
                Error::PermissionDenied if own => Ok(()),
                error => Err(error),
            })
        });
        let permit = permit.await?;
        let auth = self.0.store().auth();
        self.0.confirm(permit)?;
        let user = auth.user(&request.name);
        let user = user.ok_or_else(|| refused(Error::UserNotFound))?;
        Ok(Response::new(pb::AuthUserGetResponse {
            header: self.0.header_now(),
            roles: user.roles.clone(),
        }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let (origin, _) = Origin::split(request);
        self.root(&origin).await?;
        Ok(Response::new(pb::AuthUserListResponse {
            header: self.0.header_now(),
            users: self.0.store().auth().users().cloned().collect(),
        }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let (origin, request) = Origin::split(request);
        let change = auth_command::Command::UserDelete(request);
        let header = self.change(&origin, change).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.root(&origin).await?;
        let change = auth_command::Command::UserChangePassword(own::AuthUserPassword {
            name: request.name,
            password_hash: self.hash(request.password).await?,
            no_password: false,
        });
        let header = self.change(&origin, change).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let (origin, request) = Origin::split(request);
        let change = auth_command::Command::UserGrantRole(request);
        let header = self.change(&origin, change).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let (origin, request) = Origin::split(request);
        let change = auth_command::Command::UserRevokeRole(request);
        let header = self.change(&origin, change).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let (origin, request) = Origin::split(request);
        let change = auth_command::Command::RoleAdd(request);
        let header = self.change(&origin, change).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.0.read_barrier().await?;
        // Everybody may look at the roles it has.
        let permit = self.0.permit(&origin, |_, auth, caller| {
            let own = auth.has_role(caller.user, &request.role);
            auth.check_root(caller).or_else(|error| match error {
                Error::PermissionDenied if own => Ok(()),
                error => Err(error),
            })
        });
        let permit = permit.await?;
        let auth = self.0.store().auth();
        self.0.confirm(permit)?;
        Ok(Response::new(pb::AuthRoleGetResponse {
            header: self.0.header_now(),
            perm: permissions(&auth, &request.role)?,
        }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let (origin, _) = Origin::split(request);
        self.root(&origin).await?;
        Ok(Response::new(pb::AuthRoleListResponse {
            header: self.0.header_now(),
            roles: self.0.store().auth().roles().cloned().collect(),
        }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let (origin, request) = Origin::split(request);
        let change = auth_command::Command::RoleDelete(request);
        let header = self.change(&origin, change).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let (origin, request) = Origin::split(request);
        let change = auth_command::Command::RoleGrantPermission(request);
        let header = self.change(&origin, change).await?;
        let answer = pb::AuthRoleGrantPermissionResponse { header };
        Ok(Response::new(answer))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let (origin, request) = Origin::split(request);
        let change = auth_command::Command::RoleRevokePermission(request);
        let header = self.change(&origin, change).await?;
        let answer = pb::AuthRoleRevokePermissionResponse { header };
        Ok(Response::new(answer))
    }
}

/// What a role allows. The root role allows everything without having been granted it.
fn permissions(auth: &rules::Auth, name: &str) -> Result<Vec<Permission>, Status> {
    let role = auth
        .role(name)
        .ok_or_else(|| refused(Error::RoleNotFound))?;
    if name != ROOT {
        return Ok(role.key_permission.clone());
    }
    Ok(vec![Permission {
        perm_type: Type::Readwrite as i32,
        key: bytes::Bytes::new(),
        range_end: bytes::Bytes::from_static(&[0]),
    }])
}
