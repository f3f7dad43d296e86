//! The single writer of a state: opens rounds, commits them, keeps the head.
//! Not the commands themselves: see `apply`.
//! Invariant: the head in memory equals the head row of the backend after every commit.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use corten_proto::etcd::etcdserverpb::AlarmType;

use crate::{
    apply::Round,
    auth::{self, Auth},
    backend::{self, BackendError, Batch, Keyspace},
    codec,
    heads::Newest,
    history::RevisionEvents,
    ids::{Position, Revision},
    lease_rows::LeaseChange,
    level,
    state::State,
    store::{self, Shared},
};

/// Applies commands. There is one per state.
pub struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: State,
    pub(crate) alarms: Alarms,
    pub(crate) auth: Arc<Auth>,
    pub(crate) level_max: u32,
    membership: Option<Bytes>,
}

/// What is kept in memory of the state, and what a round makes of it.
pub(crate) struct Head {
    pub(crate) state: State,
    pub(crate) alarms: Alarms,
    pub(crate) auth: Arc<Auth>,
}

/// What a committed round changed, for those who follow the state.
#[derive(Debug, Default)]
pub struct Changes {
    /// Newest revision after the round.
    pub revision: Revision,
    /// Events by revision, in order.
    pub events: Vec<RevisionEvents>,
    /// Changes of leases, in order.
    pub leases: Vec<LeaseChange>,
    /// New compacted revision, if the round moved it.
    pub compacted: Option<Revision>,
}

/// Alarms that are on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Alarms(pub(crate) BTreeSet<(u64, i32)>);

impl Alarms {
    pub(crate) fn no_space(&self) -> bool {
        self.0
            .iter()
            .any(|(_, alarm)| *alarm == AlarmType::Nospace as i32)
    }

    pub(crate) fn corrupt(&self) -> bool {
        self.0
            .iter()
            .any(|(_, alarm)| *alarm == AlarmType::Corrupt as i32)
    }
}

impl Writer {
    pub(crate) fn load(shared: Arc<Shared>) -> backend::Result<Self> {
        let view = shared.backend.as_ref();
        let state = State::load(view)?;
        let alarms = store::alarms(view)?
            .into_iter()
            .map(|alarm| (alarm.member_id, alarm.alarm));
        let alarms = Alarms(alarms.collect());
        let membership = view.get(Keyspace::Meta, codec::META_MEMBERSHIP)?;
        let auth = Arc::new(auth::load(view)?);
        Ok(Self {
            shared,
            state,
            alarms,
            auth,
            level_max: level::KNOWN,
            membership,
        })
    }

    /// Reads everything anew: after the backend's content was replaced by a snapshot of another member.
    pub fn reload(&mut self) -> backend::Result<()> {
        self.shared.heads.clear();
        let level_max = self.level_max;
        *self = Self::load(Arc::clone(&self.shared))?;
        self.limit_level(level_max)?;
        self.shared.publish(&self.state, &self.alarms);
        self.shared.publish_auth(&self.auth);
        Ok(())
    }

    /// Takes this member for one that knows levels up to `max`, at most those of this version. Fails when the state is
    /// beyond that: then this version must not touch it.
    pub fn limit_level(&mut self, max: u32) -> backend::Result<()> {
        self.level_max = max.min(level::KNOWN);
        if self.state.level > self.level_max {
            let message = level::beyond(self.state.level, self.level_max);
            return Err(BackendError::corrupt(message));
        }
        Ok(())
    }

    /// The last log position whose effect is in the state.
    pub fn applied(&self) -> Option<Position> {
        self.state.applied
    }

    /// Newest revision.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// Cluster level agreed on.
    pub fn level(&self) -> u32 {
        self.state.level
    }

    /// The membership that was set last; its meaning is the shell's.
    pub fn membership(&self) -> Option<&Bytes> {
        self.membership.as_ref()
    }

    /// Begins a round: any number of entries that are committed as one batch.
    pub fn begin(&mut self) -> Round<'_> {
        Round::new(self)
    }

    pub(crate) fn commit(
        &mut self,
        mut batch: Batch,
        heads: HashMap<Bytes, Newest>,
        head: Head,
        membership: Option<Bytes>,
    ) -> backend::Result<()> {
        let Head {
            state,
            alarms,
            auth,
        } = head;
        assert!(
            state.revision >= self.state.revision,
            "the revision went back"
        );
        assert!(
            state.applied >= self.state.applied,
            "the applied position went back"
        );
        batch.put(Keyspace::Meta, codec::META_STATE, state.encode());
        if let Some(membership) = &membership {
            batch.put(Keyspace::Meta, codec::META_MEMBERSHIP, membership.clone());
        }
        self.shared.write(batch)?;
        for (key, head) in heads {
            self.shared.heads.set(&key, head);
        }
        self.state = state;
        self.alarms = alarms;
        if membership.is_some() {
            self.membership = membership;
        }
        self.shared.publish(&self.state, &self.alarms);
        if !Arc::ptr_eq(&self.auth, &auth) {
            self.auth = auth;
            self.shared.publish_auth(&self.auth);
        }
        Ok(())
    }
}
