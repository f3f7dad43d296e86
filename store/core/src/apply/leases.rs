//! The commands of leases: grant, revoke, checkpoint.
//! Not time, and not keep-alives: those never enter the log.
//! Invariant: revoking deletes every attached key in one revision, in order of keys.

use corten_proto::{
    corten::store::v1::{LeaseGrant, LeaseRevoke},
    etcd::etcdserverpb::{
        LeaseCheckpointRequest, LeaseCheckpointResponse, LeaseGrantResponse, LeaseRevokeResponse,
    },
};

use super::Work;
use crate::{
    backend::Keyspace,
    check, codec,
    error::Error,
    ids::LeaseId,
    lease_rows::{self, LeaseChange, LeaseRecord},
};

impl Work {
    pub(super) fn lease_grant(
        &mut self,
        request: &LeaseGrant,
    ) -> Result<LeaseGrantResponse, Error> {
        let id = LeaseId(request.id);
        if self.alarms.no_space() {
            return Err(Error::NoSpace);
        }
        if !id.is_some() {
            return Err(Error::LeaseNotFound);
        }
        if request.ttl_seconds > check::LEASE_TTL_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        if lease_rows::get(&self.view, id)?.is_some() {
            return Err(Error::LeaseExists);
        }
        let record = LeaseRecord {
            ttl: request.ttl_seconds,
            remaining: 0,
        };
        self.view.batch.put(
            Keyspace::Meta,
            codec::lease_row(id).to_vec(),
            record.encode(),
        );
        self.changes.leases.push(LeaseChange::Granted(id, record));
        let header = Some(self.header());
        Ok(LeaseGrantResponse {
            header,
            id: id.0,
            ttl: record.ttl,
            error: String::new(),
        })
    }

    pub(super) fn lease_revoke(
        &mut self,
        request: &LeaseRevoke,
    ) -> Result<LeaseRevokeResponse, Error> {
        let mut found = Vec::with_capacity(request.ids.len());
        for id in request.ids.iter().copied().map(LeaseId) {
            match lease_rows::get(&self.view, id)? {
                Some(_) if !found.contains(&id) => found.push(id),
                None if !request.expired => return Err(Error::LeaseNotFound),
                _ => {}
            }
        }
        for id in found {
            self.revoke(id)?;
        }
        Ok(LeaseRevokeResponse {
            header: Some(self.header()),
        })
    }

    fn revoke(&mut self, id: LeaseId) -> Result<(), Error> {
        for key in lease_rows::keys(&self.view, id)? {
            let live = self.latest(&key)?.filter(|live| live.lease == id);
            let live =
                live.expect("an attachment row exists only while the record names the lease");
            self.delete(key, live);
        }
        self.view
            .batch
            .delete(Keyspace::Meta, codec::lease_row(id).to_vec());
        self.changes.leases.push(LeaseChange::Revoked(id));
        self.finish();
        Ok(())
    }

    pub(super) fn lease_checkpoint(
        &mut self,
        request: &LeaseCheckpointRequest,
    ) -> Result<LeaseCheckpointResponse, Error> {
        for checkpoint in &request.checkpoints {
            let id = LeaseId(checkpoint.id);
            // Revoked meanwhile: nothing to note.
            let Some(mut record) = lease_rows::get(&self.view, id)? else {
                continue;
            };
            record.remaining = checkpoint.remaining_ttl.clamp(0, record.ttl);
            self.view.batch.put(
                Keyspace::Meta,
                codec::lease_row(id).to_vec(),
                record.encode(),
            );
            self.changes
                .leases
                .push(LeaseChange::Checkpointed(id, record));
        }
        Ok(LeaseCheckpointResponse {
            header: Some(self.header()),
        })
    }
}
