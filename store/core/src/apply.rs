//! Applying commands: one round is any number of log entries, one batch, one list of changes.
//! Not here: transactions (`txn`); the order of entries, which the log decides.
//! Invariant: a refused command leaves nothing behind but the applied position.

mod auth;
mod leases;

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use corten_proto::{
    corten::store::v1::{Noop, RaftReply, RaftRequest, Refusal, raft_reply, raft_request::Command},
    etcd::{
        etcdserverpb::{
            AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionRequest,
            CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
            ResponseHeader, alarm_request::AlarmAction,
        },
        mvccpb::{Event, KeyValue, event::EventType},
    },
};

use crate::{
    auth::Auth,
    backend::{self, BackendError, Keyspace, Read},
    check,
    codec::{self, Record},
    error::Error,
    heads::Newest,
    history::RevisionEvents,
    ids::{LeaseId, Position, Revision},
    lease_rows, level,
    overlay::Overlay,
    read::{self, Live},
    span::Span,
    state::State,
    store::Shared,
    txn,
    writer::{Alarms, Changes, Head, Writer},
};

/// An open round. Dropping it without `commit` undoes it.
pub struct Round<'a> {
    writer: &'a mut Writer,
    work: Work,
    membership: Option<Bytes>,
}

/// The round's state, which becomes the writer's at the commit.
pub(crate) struct Work {
    pub(crate) view: Overlay,
    pub(crate) state: State,
    pub(crate) alarms: Alarms,
    pub(crate) auth: Arc<Auth>,
    /// The highest cluster level that this member understands.
    level_max: u32,
    pub(crate) changes: Changes,
    /// The newest versions that the round wrote.
    heads: HashMap<Bytes, Newest>,
    known: Arc<Shared>,
    /// Events of the command under way; they share the next revision.
    events: Vec<Event>,
}

impl<'a> Round<'a> {
    pub(crate) fn new(writer: &'a mut Writer) -> Self {
        let work = Work {
            view: Overlay::new(writer.shared.backend.clone()),
            state: writer.state,
            alarms: writer.alarms.clone(),
            auth: Arc::clone(&writer.auth),
            level_max: writer.level_max,
            changes: Changes::default(),
            heads: HashMap::new(),
            known: Arc::clone(&writer.shared),
            events: Vec::new(),
        };
        Self {
            writer,
            work,
            membership: None,
        }
    }

    /// Applies one command. Only a failing backend is an error; the round is then to be dropped.
    pub fn apply(&mut self, at: Position, request: &RaftRequest) -> backend::Result<RaftReply> {
        self.skip(at);
        self.work.apply(at, request)
    }

    /// Notes an entry that changes nothing here.
    pub fn skip(&mut self, at: Position) {
        assert!(
            Some(at) > self.work.state.applied,
            "entry {at:?} was applied before"
        );
        self.work.state.applied = Some(at);
    }

    /// Notes an entry that changes the membership.
    pub fn set_membership(&mut self, at: Position, membership: Bytes) {
        self.skip(at);
        self.membership = Some(membership);
    }

    /// Writes everything as one batch and makes it visible.
    pub fn commit(self) -> backend::Result<Changes> {
        let Self {
            writer,
            work,
            membership,
        } = self;
        let mut changes = work.changes;
        changes.revision = work.state.revision;
        let head = Head {
            state: work.state,
            alarms: work.alarms,
            auth: work.auth,
        };
        writer.commit(work.view.batch, work.heads, head, membership)?;
        Ok(changes)
    }
}

impl Work {
    fn apply(&mut self, at: Position, request: &RaftRequest) -> backend::Result<RaftReply> {
        let result = match self.command(at, request) {
            Ok(result) => result,
            Err(Error::Backend(error)) => return Err(error),
            Err(refusal) => raft_reply::Result::Refusal(Refusal {
                code: refusal.code(),
                message: refusal.to_string(),
            }),
        };
        assert!(
            self.events.is_empty(),
            "a command left events without a revision"
        );
        Ok(RaftReply {
            revision: self.state.revision.get(),
            result: Some(result),
        })
    }

    fn command(
        &mut self,
        at: Position,
        request: &RaftRequest,
    ) -> Result<raft_reply::Result, Error> {
        use raft_reply::Result as R;
        if request.term != 0 && request.term != at.term {
            return Err(Error::TermPassed);
        }
        // Before the command itself: below its level not every member can read it.
        if request.level > self.state.level {
            return Err(self.level_too_low(request.level));
        }
        let command = request.command.as_ref().ok_or(Error::UnknownCommand)?;
        if level::of(command) > self.state.level {
            return Err(self.level_too_low(level::of(command)));
        }
        if self.auth.is_enabled() {
            self.authorize(request, command)?;
        }
        match command {
            Command::Put(put) => self.put_command(put).map(R::Put),
            Command::DeleteRange(delete) => self.delete_command(delete).map(R::DeleteRange),
            Command::Txn(txn) => txn::write(self, txn).map(R::Txn),
            Command::Compact(compact) => self.compact(compact).map(R::Compact),
            Command::LeaseGrant(grant) => self.lease_grant(grant).map(R::LeaseGrant),
            Command::LeaseRevoke(revoke) => self.lease_revoke(revoke).map(R::LeaseRevoke),
            Command::LeaseCheckpoint(checkpoint) => {
                self.lease_checkpoint(checkpoint).map(R::LeaseCheckpoint)
            }
            Command::Alarm(alarm) => Ok(R::Alarm(self.alarm(alarm))),
            Command::ClusterLevel(level) => self.raise_level(level.level).map(R::Noop),
            Command::Auth(auth) => self.auth_command(auth).map(|()| R::Noop(Noop {})),
            Command::Noop(_) => Ok(R::Noop(Noop {})),
        }
    }

    fn level_too_low(&self, needed: u32) -> Error {
        Error::LevelTooLow {
            needed,
            level: self.state.level,
        }
    }

    /// Not a refusal when this member does not know the level: the others go on, so it must stop.
    fn raise_level(&mut self, wanted: u32) -> Result<Noop, Error> {
        if wanted > self.level_max {
            return Err(BackendError::corrupt(level::beyond(wanted, self.level_max)).into());
        }
        self.state.level = self.state.level.max(wanted);
        Ok(Noop {})
    }

    fn put_command(&mut self, request: &PutRequest) -> Result<PutResponse, Error> {
        check::put(request)?;
        if self.alarms.no_space() {
            return Err(Error::NoSpace);
        }
        self.check_put(request)?;
        let mut response = self.put(request)?;
        response.header = Some(self.finish());
        Ok(response)
    }

    fn delete_command(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        check::delete_range(request)?;
        let mut response = self.delete_range(request)?;
        response.header = Some(self.finish());
        Ok(response)
    }

    /// What must hold before a put changes anything.
    pub(crate) fn check_put(&self, request: &PutRequest) -> Result<(), Error> {
        if (request.ignore_value || request.ignore_lease) && self.latest(&request.key)?.is_none() {
            return Err(Error::KeyNotFound);
        }
        let lease = LeaseId(request.lease);
        if lease.is_some() && lease_rows::get(&self.view, lease)?.is_none() {
            return Err(Error::LeaseNotFound);
        }
        Ok(())
    }

    /// The revision that the command under way will get if it changes anything.
    pub(crate) fn next_revision(&self) -> Revision {
        self.state.revision.next()
    }

    /// The revision that reads within the command see.
    pub(crate) fn visible_revision(&self) -> Revision {
        if self.events.is_empty() {
            self.state.revision
        } else {
            self.next_revision()
        }
    }

    /// The newest version of a key, this command's own included.
    pub(crate) fn latest(&self, key: &[u8]) -> backend::Result<Option<Live>> {
        if let Some(head) = self.heads.get(key) {
            return Ok(head.live.clone());
        }
        match self.known.heads.get(key, self.state.revision) {
            Some(head) => Ok(head.live),
            None => read::get(&self.view, key, self.next_revision()),
        }
    }

    /// Puts a key as part of the command under way.
    pub(crate) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Error> {
        let old = self.latest(&request.key)?;
        let revision = self.next_revision();
        let old_lease = old.as_ref().map_or(LeaseId::NONE, |old| old.lease);
        let new = Live {
            modified: revision,
            created: old.as_ref().map_or(revision, |old| old.created),
            version: old.as_ref().map_or(0, |old| old.version) + 1,
            lease: if request.ignore_lease {
                old_lease
            } else {
                LeaseId(request.lease)
            },
            value: match &old {
                Some(old) if request.ignore_value => old.value.clone(),
                _ => request.value.clone(),
            },
        };
        self.attach(&request.key, old_lease, new.lease);
        let record = Record::Value {
            created: new.created,
            version: new.version,
            lease: new.lease,
            value: new.value.clone(),
        };
        let prev_kv = old.map(|old| old.into_key_value(request.key.clone()));
        let response = PutResponse {
            header: None,
            prev_kv: if request.prev_kv {
                prev_kv.clone()
            } else {
                None
            },
        };
        let kv = new.into_key_value(request.key.clone());
        self.record(
            record,
            Event {
                r#type: EventType::Put as i32,
                kv: Some(kv),
                prev_kv,
            },
        );
        Ok(response)
    }

    /// Deletes what lives in a range as part of the command under way.
    pub(crate) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        let span = Span::new(&request.key, &request.range_end);
        let mut doomed = Vec::new();
        match &span {
            Span::Key(key) => doomed.extend(self.latest(key)?.map(|live| (key.clone(), live))),
            Span::Range { .. } => read::walk(
                &self.view,
                &span,
                self.next_revision(),
                |cursor, modified| {
                    if let Some(live) = read::live(cursor, modified)? {
                        doomed.push((codec::user_key(&cursor.key_bytes())?, live));
                    }
                    Ok(std::ops::ControlFlow::Continue(()))
                },
            )?,
        }
        let mut response = DeleteRangeResponse {
            deleted: i64::try_from(doomed.len()).unwrap_or(i64::MAX),
            ..Default::default()
        };
        for (key, live) in doomed {
            let prev_kv = self.delete(key, live);
            if request.prev_kv {
                response.prev_kvs.push(prev_kv);
            }
        }
        Ok(response)
    }

    /// Deletes one living key; gives what it was.
    fn delete(&mut self, key: Bytes, live: Live) -> KeyValue {
        self.attach(&key, live.lease, LeaseId::NONE);
        let prev_kv = live.into_key_value(key.clone());
        let kv = KeyValue {
            key,
            mod_revision: self.next_revision().get(),
            ..Default::default()
        };
        self.record(
            Record::Tombstone,
            Event {
                r#type: EventType::Delete as i32,
                kv: Some(kv),
                prev_kv: Some(prev_kv.clone()),
            },
        );
        prev_kv
    }

    fn attach(&mut self, key: &[u8], old: LeaseId, new: LeaseId) {
        if old == new {
            return;
        }
        if old.is_some() {
            self.view
                .batch
                .delete(Keyspace::Lease, codec::attachment_row(old, key));
        }
        if new.is_some() {
            self.view.batch.put(
                Keyspace::Lease,
                codec::attachment_row(new, key),
                Bytes::new(),
            );
        }
    }

    /// Writes a version and its place in history, and keeps the event for the watches.
    fn record(&mut self, record: Record, event: Event) {
        let revision = self.next_revision();
        let sub =
            u32::try_from(self.events.len()).expect("a command has far fewer than 2^32 changes");
        let kv = event.kv.as_ref().expect("both callers set the key");
        let row = codec::key_row(&kv.key, revision);
        assert!(
            self.view.batch.get(Keyspace::Key, &row).is_none(),
            "one command changed a key twice; the duplicate check let it through"
        );
        self.view.batch.put(Keyspace::Key, row, record.encode());
        let head = Newest {
            modified: revision,
            live: Live::from_record(record, revision),
        };
        self.heads.insert(kv.key.clone(), head);
        self.view
            .batch
            .put(Keyspace::Rev, codec::rev_row(revision, sub), kv.key.clone());
        self.events.push(event);
    }

    /// Ends a command: if it changed anything, its revision becomes the current one.
    pub(crate) fn finish(&mut self) -> ResponseHeader {
        if !self.events.is_empty() {
            self.state.revision = self.next_revision();
            let events = std::mem::take(&mut self.events);
            self.changes
                .events
                .push(RevisionEvents::new(self.state.revision, events));
        }
        self.header()
    }

    pub(crate) fn header(&self) -> ResponseHeader {
        ResponseHeader {
            revision: self.state.revision.get(),
            ..Default::default()
        }
    }

    fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, Error> {
        let revision = Revision::new(request.revision);
        if revision <= self.state.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.state.revision {
            return Err(Error::FutureRevision);
        }
        self.state.compacted = revision;
        self.changes.compacted = Some(revision);
        Ok(CompactionResponse {
            header: Some(self.header()),
        })
    }

    fn alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let none = AlarmType::None as i32;
        let named = |member: u64, alarm: i32| {
            (request.member_id == 0 || member == request.member_id)
                && (request.alarm == none || alarm == request.alarm)
        };
        let mut changed = Vec::new();
        match request.action() {
            AlarmAction::Get => {
                changed.extend(self.alarms.0.iter().filter(|(m, a)| named(*m, *a)).copied())
            }
            AlarmAction::Activate if request.alarm != none => {
                let alarm = (request.member_id, request.alarm);
                self.alarms.0.insert(alarm);
                self.view.batch.put(
                    Keyspace::Meta,
                    codec::alarm_row(alarm.0, alarm.1),
                    Bytes::new(),
                );
                changed.push(alarm);
            }
            AlarmAction::Activate => {}
            AlarmAction::Deactivate => {
                changed.extend(self.alarms.0.iter().filter(|(m, a)| named(*m, *a)).copied());
                for (member, alarm) in &changed {
                    self.alarms.0.remove(&(*member, *alarm));
                    self.view
                        .batch
                        .delete(Keyspace::Meta, codec::alarm_row(*member, *alarm));
                }
            }
        }
        let alarms = changed
            .into_iter()
            .map(|(member_id, alarm)| AlarmMember { member_id, alarm })
            .collect();
        AlarmResponse {
            header: Some(self.header()),
            alarms,
        }
    }

    pub(crate) fn reader(&self) -> &dyn Read {
        &self.view
    }
}
