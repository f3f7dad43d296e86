//! Comparing the members' content now and then: who differs from the majority has lost or changed data.
//!
//! Not the checksums of log and snapshots, which find damage where it is read; this finds what went wrong unseen. The
//! leader asks everybody for the hash at one revision. Invariant: hashes are compared only at equal revisions, compacted
//! and current; nobody is suspected because of lagging or being away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_proto::corten::store::v1 as pb;
use corten_proto::etcd::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
use corten_store_core::KvHash;
use pb::raft_request::Command;
use tokio::time::timeout;

use super::{Member, REQUEST_TIMEOUT};
use crate::offload::offload;
use crate::peer::connect::Lane;
use crate::raft::types::MemberId;
use crate::replica::ProposeError;

/// A member reads all of its keys for an answer; beyond this it is left out of the round.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Compares at intervals, as leader, until `shutdown`.
pub(crate) async fn run_comparisons(member: Arc<Member>, every: Duration, shutdown: Shutdown) {
    if every.is_zero() {
        return;
    }
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is at once, when there is nothing to compare yet.
    tick.tick().await;
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            _ = tick.tick() => {}
        }
        if !member.raft().is_leader() {
            continue;
        }
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = compare(&member) => {}
        }
    }
}

async fn compare(member: &Member) {
    member.disarm_departed().await;
    let Some((revision, hashes)) = member.hashes(None).await else {
        return;
    };
    for suspect in suspects(&hashes) {
        raise(member, suspect, revision).await;
    }
}

/// The hash that more than half of those have that answered.
fn majority(hashes: &BTreeMap<MemberId, u32>) -> Option<u32> {
    let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
    for hash in hashes.values() {
        *votes.entry(*hash).or_default() += 1;
    }
    votes
        .into_iter()
        .find(|(_, count)| count * 2 > hashes.len())
        .map(|(hash, _)| hash)
}

/// Members that differ from a majority of those that answered. Without one nobody can say who is right.
fn suspects(hashes: &BTreeMap<MemberId, u32>) -> Vec<MemberId> {
    match majority(hashes) {
        Some(right) => hashes
            .iter()
            .filter(|(_, hash)| **hash != right)
            .map(|(id, _)| *id)
            .collect(),
        None => {
            tracing::error!(
                ?hashes,
                "members differ, and no majority says which of them is right"
            );
            Vec::new()
        }
    }
}

/// Makes it known to all members; the one concerned stops serving.
async fn raise(member: &Member, suspect: MemberId, revision: i64) {
    tracing::error!(member = %suspect, revision, "this member's keys differ from the others': raising the CORRUPT alarm");
    if let Err(error) = member.set_corrupt(suspect, true).await {
        tracing::warn!(%error, "cannot raise the alarm now; the next comparison does");
        return;
    }
    if suspect == member.id()
        && let Some(successor) = member.best_successor()
        && timeout(REQUEST_TIMEOUT, member.move_leader(successor.0))
            .await
            .is_err()
    {
        tracing::warn!(to = %successor, "a corrupt leader could not hand over");
    }
}

impl Member {
    /// As leader: the hashes of all members that answer, at one revision. `but` is not asked.
    async fn hashes(&self, but: Option<MemberId>) -> Option<(i64, BTreeMap<MemberId, u32>)> {
        let index = self.applied().get()?;
        // After the index: so whoever has applied the index has the revision.
        let revision = self.engine().store().revision().get();
        let own = self.kv_hash_here(revision, index).await.ok()?;
        let mut hashes = BTreeMap::from([(self.id(), own.hash)]);
        let membership = self.membership();
        for (id, node) in membership.nodes() {
            if *id == self.id() || Some(*id) == but {
                continue;
            }
            let mut client = self.parts.peers.client(*id, node, Lane::Control);
            let request = pb::KvHashRequest { revision, index };
            match timeout(ANSWER_TIMEOUT, client.kv_hash(request)).await {
                Ok(Ok(answer)) => {
                    let answer = answer.into_inner();
                    if answer.compacted == own.compacted.get() {
                        hashes.insert(*id, answer.hash);
                    }
                }
                Ok(Err(status)) => tracing::debug!(member = %id, %status, "no hash to compare"),
                Err(_) => tracing::debug!(member = %id, "no hash in time"),
            }
        }
        Some((revision, hashes))
    }

    /// As leader: whether another member may have this one's tables. It reads all of them, and compares the keys with those
    /// of the others: a copy of a wrong key would make it the majority's.
    pub(super) async fn vouch(&self, to: MemberId) -> Result<(), String> {
        let store = self.engine().store().clone();
        let read = offload(move || store.hash()).await;
        if !matches!(read, Ok(Ok(_))) {
            return Err("the leader cannot read its own tables".to_owned());
        }
        let hashes = self.hashes(Some(to)).await;
        let (revision, hashes) = hashes.ok_or("the leader has no hash")?;
        let others = self.membership().nodes().count() > 2;
        match judged_source(&hashes, self.id()) {
            Source::Sound => Ok(()),
            Source::Alone if !others => Ok(()),
            Source::Alone => {
                Err("no other member's keys could be compared with the leader's".to_owned())
            }
            Source::Unknown => Err(
                "the leader's keys and another member's differ, and nobody can tell who is right"
                    .to_owned(),
            ),
            Source::Wrong => {
                for suspect in suspects(&hashes) {
                    raise(self, suspect, revision).await;
                }
                Err("the leader's keys differ from the others'".to_owned())
            }
        }
    }

    /// As leader: compares one member with the others now. An alarm of one that agrees goes.
    pub(crate) async fn compare_member_here(&self, id: MemberId) -> Result<bool, tonic::Status> {
        let later = |why: &str| tonic::Status::unavailable(why.to_owned());
        let confirmed = self.confirm_leadership().await;
        confirmed.map_err(|error| later(&error.to_string()))?;
        let hashes = self.hashes(None).await;
        let (revision, hashes) = hashes.ok_or_else(|| later("the leader has no hash"))?;
        let right = majority(&hashes).ok_or_else(|| later("no majority agrees on the keys"))?;
        let hash = hashes
            .get(&id)
            .ok_or_else(|| later("the member did not answer in time, or compacts"))?;
        let agrees = *hash == right;
        if agrees && self.engine().store().is_corrupt(id.0) {
            tracing::warn!(member = %id, revision, "this member's keys agree with the others': disarming the CORRUPT alarm");
            self.set_corrupt(id, false).await?;
            self.repaired(id);
        }
        Ok(agrees)
    }

    /// Switches the CORRUPT alarm of a member.
    pub(super) async fn set_corrupt(&self, id: MemberId, on: bool) -> Result<(), ProposeError> {
        let action = match on {
            true => AlarmAction::Activate,
            false => AlarmAction::Deactivate,
        };
        let request = pb::RaftRequest {
            command: Some(Command::Alarm(AlarmRequest {
                action: action as i32,
                member_id: id.0,
                alarm: AlarmType::Corrupt as i32,
            })),
            ..Default::default()
        };
        self.propose(&request).await.map(drop)
    }

    /// Disarms what is on for members that are none any more: nobody else would.
    pub(super) async fn disarm_departed(&self) {
        let membership = self.membership();
        for alarm in self.engine().store().alarms().unwrap_or_default() {
            let id = MemberId(alarm.member_id);
            if alarm.alarm() != AlarmType::Corrupt || membership.get_node(&id).is_some() {
                continue;
            }
            tracing::info!(member = %id, "the CORRUPT alarm was of a member that is gone");
            if let Err(error) = self.set_corrupt(id, false).await {
                tracing::debug!(%error, "cannot disarm it now");
            }
        }
    }

    /// Hash of this member's keys at a revision, once it has applied the log up to `index`.
    pub(crate) async fn kv_hash_here(
        &self,
        revision: i64,
        index: u64,
    ) -> Result<KvHash, tonic::Status> {
        let applied = timeout(REQUEST_TIMEOUT, self.applied().reached(index)).await;
        if !matches!(applied, Ok(Ok(()))) {
            return Err(tonic::Status::unavailable("this member lags behind"));
        }
        let store = self.engine().store().clone();
        let hash = offload(move || store.hash_kv(revision)).await;
        match hash {
            Ok(Ok(hash)) => Ok(hash),
            Ok(Err(error)) => Err(tonic::Status::unavailable(error.to_string())),
            Err(error) => Err(tonic::Status::internal(error.to_string())),
        }
    }

    /// Whether the others have found this member's data to be wrong.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.engine().store().is_corrupt(self.id().0)
    }
}

/// What the hashes say of a member that others are to be copied from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// More than half agree with it.
    Sound,
    /// There is nothing to compare with.
    Alone,
    /// Some differ, and no more than half agree.
    Unknown,
    /// More than half agree on something else.
    Wrong,
}

fn judged_source(hashes: &BTreeMap<MemberId, u32>, source: MemberId) -> Source {
    match majority(hashes) {
        _ if hashes.len() < 2 => Source::Alone,
        Some(right) if hashes.get(&source) == Some(&right) => Source::Sound,
        Some(_) => Source::Wrong,
        None => Source::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(hashes: &[u32]) -> Vec<u64> {
        let hashes = (1..).map(MemberId).zip(hashes.iter().copied()).collect();
        suspects(&hashes).iter().map(|id| id.0).collect()
    }

    #[test]
    fn who_differs_from_the_majority_is_suspected() {
        assert!(judged(&[7, 7, 7]).is_empty());
        assert_eq!(judged(&[7, 8, 7]), [2]);
        assert_eq!(judged(&[8, 7, 7, 7, 9]), [1, 5]);
        assert!(judged(&[7]).is_empty());
        // Two against each other, or everybody else away: nobody can tell.
        assert!(judged(&[7, 8]).is_empty());
        assert!(judged(&[7, 8, 9]).is_empty());
    }

    #[test]
    fn nobody_is_copied_who_differs() {
        let of = |hashes: &[u32]| {
            let hashes = (1..).map(MemberId).zip(hashes.iter().copied()).collect();
            judged_source(&hashes, MemberId(1))
        };
        assert_eq!(of(&[7, 7]), Source::Sound);
        assert_eq!(of(&[7, 7, 7, 8]), Source::Sound);
        assert_eq!(of(&[7]), Source::Alone);
        assert_eq!(of(&[7, 8]), Source::Unknown);
        assert_eq!(of(&[7, 7, 8, 8]), Source::Unknown);
        assert_eq!(of(&[8, 7, 7, 7]), Source::Wrong);
    }
}
