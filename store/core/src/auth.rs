//! Users, roles, and what they may do.
//! Not who somebody is: tokens and certificates are looked at by the shell. Nor passwords: they come and stay as hashes.
//! Invariant: the state in memory equals the rows, and every decision is a function of it and of the request alone.

mod coverage;
mod rows;

use std::collections::BTreeMap;

use bytes::Bytes;
use corten_proto::{
    corten::store::v1::AuthUser,
    etcd::{
        authpb::{Permission, Role, permission::Type},
        etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request},
    },
};

use crate::{error::Error, span::Span};

pub use coverage::Coverage;
pub(crate) use rows::{delete_role, delete_user, load, put_head, put_role, put_user};

/// The user, and the role, that may do everything.
pub const ROOT: &str = "root";
/// What the revision is before anything was changed, as in etcd.
const FIRST_REVISION: u64 = 1;

/// Users and roles at one time.
#[derive(Debug, Clone)]
pub struct Auth {
    pub(crate) enabled: bool,
    pub(crate) revision: u64,
    pub(crate) token_key: Bytes,
    pub(crate) users: BTreeMap<String, AuthUser>,
    pub(crate) roles: BTreeMap<String, Role>,
    /// By user; made anew with every change.
    grants: BTreeMap<String, Grants>,
}

/// What the roles of a user allow together.
#[derive(Debug, Clone, Default)]
struct Grants {
    root: bool,
    read: Coverage,
    write: Coverage,
}

/// Who asks, and at which auth revision that was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Empty: nobody said.
    pub user: &'a str,
    /// 0: nobody said.
    pub revision: u64,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: FIRST_REVISION,
            token_key: Bytes::new(),
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            grants: BTreeMap::new(),
        }
    }
}

impl Auth {
    /// Whether users are told apart.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Counts changes.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What tokens are sealed with.
    pub fn token_key(&self) -> &Bytes {
        &self.token_key
    }

    /// One user.
    pub fn user(&self, name: &str) -> Option<&AuthUser> {
        self.users.get(name)
    }

    /// All users' names, in order.
    pub fn users(&self) -> impl Iterator<Item = &String> {
        self.users.keys()
    }

    /// One role.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    /// All roles' names, in order.
    pub fn roles(&self) -> impl Iterator<Item = &String> {
        self.roles.keys()
    }

    /// Whether a user has a role.
    pub fn has_role(&self, user: &str, role: &str) -> bool {
        self.users
            .get(user)
            .is_some_and(|user| user.roles.iter().any(|own| own == role))
    }

    /// Passes whoever has said who it is.
    pub fn check_known(&self, caller: Caller<'_>) -> Result<(), Error> {
        if self.enabled && caller.user.is_empty() {
            Err(Error::UserEmpty)
        } else {
            Ok(())
        }
    }

    /// Passes users with the root role.
    pub fn check_root(&self, caller: Caller<'_>) -> Result<(), Error> {
        match self.grants(caller)? {
            Some(grants) if !grants.root => Err(Error::PermissionDenied),
            _ => Ok(()),
        }
    }

    /// May all keys of a span be read?
    pub fn check_read(&self, caller: Caller<'_>, span: &Span) -> Result<(), Error> {
        match self.grants(caller)? {
            Some(grants) if !grants.root && !grants.read.covers(span) => {
                Err(Error::PermissionDenied)
            }
            _ => Ok(()),
        }
    }

    /// May all keys of a span be put and deleted?
    pub fn check_write(&self, caller: Caller<'_>, span: &Span) -> Result<(), Error> {
        match self.grants(caller)? {
            Some(grants) if !grants.root && !grants.write.covers(span) => {
                Err(Error::PermissionDenied)
            }
            _ => Ok(()),
        }
    }

    /// A put. `lease_keys` gives what hangs on a lease: who may not write all of it could not revoke the lease, and so may
    /// not hang more on it.
    pub(crate) fn check_put(
        &self,
        caller: Caller<'_>,
        put: &PutRequest,
        lease_keys: &dyn Fn(i64) -> Result<Vec<Bytes>, Error>,
    ) -> Result<(), Error> {
        let span = Span::Key(put.key.clone());
        self.check_write(caller, &span)?;
        if put.prev_kv {
            self.check_read(caller, &span)?;
        }
        if put.lease != 0 {
            self.check_lease(caller, || lease_keys(put.lease))?;
        }
        Ok(())
    }

    /// May all that hangs on a lease be written?
    pub(crate) fn check_lease(
        &self,
        caller: Caller<'_>,
        keys: impl FnOnce() -> Result<Vec<Bytes>, Error>,
    ) -> Result<(), Error> {
        match self.grants(caller)? {
            Some(grants) if !grants.root => {
                let allowed = |key| grants.write.covers(&Span::Key(key));
                if keys()?.into_iter().all(allowed) {
                    Ok(())
                } else {
                    Err(Error::PermissionDenied)
                }
            }
            _ => Ok(()),
        }
    }

    /// A transaction with all of its comparisons, both branches and everything nested, whichever branch it takes.
    pub(crate) fn check_txn(
        &self,
        caller: Caller<'_>,
        txn: &TxnRequest,
        lease_keys: &dyn Fn(i64) -> Result<Vec<Bytes>, Error>,
    ) -> Result<(), Error> {
        // Also of a transaction that does nothing at all.
        self.grants(caller)?;
        for compare in &txn.compare {
            self.check_read(caller, &Span::new(&compare.key, &compare.range_end))?;
        }
        for RequestOp { request } in txn.success.iter().chain(&txn.failure) {
            match request {
                Some(Request::RequestRange(range)) => {
                    self.check_read(caller, &Span::new(&range.key, &range.range_end))?;
                }
                Some(Request::RequestPut(put)) => self.check_put(caller, put, lease_keys)?,
                Some(Request::RequestDeleteRange(delete)) => {
                    let span = Span::new(&delete.key, &delete.range_end);
                    self.check_write(caller, &span)?;
                    if delete.prev_kv {
                        self.check_read(caller, &span)?;
                    }
                }
                Some(Request::RequestTxn(nested)) => self.check_txn(caller, nested, lease_keys)?,
                None => {}
            }
        }
        Ok(())
    }

    /// What the caller may do; none while auth is off, when everybody may do everything.
    fn grants(&self, caller: Caller<'_>) -> Result<Option<&Grants>, Error> {
        if !self.enabled {
            return Ok(None);
        }
        if caller.user.is_empty() {
            return Err(Error::UserEmpty);
        }
        // Who it is was found out in another state: the name may be another one's by now.
        if caller.revision != self.revision {
            return Err(Error::AuthOldRevision);
        }
        let grants = self.grants.get(caller.user);
        grants.map(Some).ok_or(Error::PermissionDenied)
    }

    /// Works out anew what each user may do.
    pub(crate) fn merge(&mut self) {
        let merged = |user: &AuthUser| {
            let held = user.roles.iter().filter_map(|role| self.roles.get(role));
            let perms = || held.clone().flat_map(|role| &role.key_permission);
            let spans = |wanted: Type| {
                let of = move |perm: &&Permission| {
                    perm.perm_type() == wanted || perm.perm_type() == Type::Readwrite
                };
                Coverage::new(
                    perms()
                        .filter(of)
                        .map(|perm| Span::new(&perm.key, &perm.range_end)),
                )
            };
            Grants {
                root: user.roles.iter().any(|role| role == ROOT),
                read: spans(Type::Read),
                write: spans(Type::Write),
            }
        };
        self.grants = self
            .users
            .iter()
            .map(|(name, user)| (name.clone(), merged(user)))
            .collect();
    }
}
