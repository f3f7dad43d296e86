//! Takes back this member's NOSPACE alarm once there is space again, so that freeing space is all that an operator does; and
//! raises it when the disk comes near its end without a put of this member's clients: by others' puts, or by other files.
//!
//! Not the raising of it for the quota: that is done where puts come in. Invariant: only an alarm of this member's own is taken back,
//! and only well below the quota, so that it does not come and go with every put.

use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_proto::corten::store::v1 as pb;
use corten_proto::etcd::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
use pb::raft_request::Command;
use tokio::time::Instant;

use super::Member;
use crate::offload::offload;

/// How often an alarm that is on is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a full store is tidied up.
const RECLAIM_EVERY: Duration = Duration::from_secs(10);
/// Percent of the quota below which there is space again.
const FREE_BELOW: u64 = 90;

/// Watches over this member's alarm until `shutdown`.
pub(crate) async fn run_quota(member: Arc<Member>, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(LOOK);
    let mut reclaimed_at = None;
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            _ = tick.tick() => {}
        }
        let store = member.engine().store();
        if !store.no_space() {
            if member.disk_room() == 0 {
                tracing::error!("the disk is near its end: raising the NOSPACE alarm");
                set_alarm(&member, AlarmAction::Activate).await;
            }
            continue;
        }
        let ours = |alarm: &corten_proto::etcd::etcdserverpb::AlarmMember| {
            alarm.member_id == member.id().0 && alarm.alarm() == AlarmType::Nospace
        };
        if !store.alarms().is_ok_and(|alarms| alarms.iter().any(ours)) {
            continue;
        }
        if !has_space(&member) {
            reclaim(&member, &mut reclaimed_at).await;
            continue;
        }
        if set_alarm(&member, AlarmAction::Deactivate).await {
            tracing::info!("there is space again: the NOSPACE alarm is off");
        }
    }
}

/// Gives whether it is so; the next look tries again.
async fn set_alarm(member: &Member, action: AlarmAction) -> bool {
    let command = Some(Command::Alarm(AlarmRequest {
        action: action as i32,
        member_id: member.id().0,
        alarm: AlarmType::Nospace as i32,
    }));
    let request = pb::RaftRequest {
        command,
        ..Default::default()
    };
    let done = member.propose(&request).await;
    if let Err(error) = &done {
        tracing::debug!(%error, "cannot change the alarm now");
    }
    done.is_ok()
}

impl Member {
    /// Bytes that the disk has left beyond the reserve.
    pub(crate) fn disk_room(&self) -> u64 {
        let reserve = self.parts.disk_reserve;
        if reserve == 0 {
            return u64::MAX;
        }
        self.disk_free().saturating_sub(reserve)
    }

    /// Bytes that the disk has left. One that does not say is taken for endless: the log finds its end.
    fn disk_free(&self) -> u64 {
        match rustix::fs::statvfs(&self.parts.incoming) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
            Err(error) => {
                tracing::debug!(%error, "the disk does not say what it has left");
                u64::MAX
            }
        }
    }
}

/// Has the engine give back what deletions and compaction have freed, which it would do only along with later writes; and
/// those are refused.
async fn reclaim(member: &Member, last: &mut Option<Instant>) {
    if last.is_some_and(|last| last.elapsed() < RECLAIM_EVERY) {
        return;
    }
    let backend = Arc::clone(member.engine().store().backend());
    let done = offload(move || backend.reclaim()).await;
    if let Ok(Err(error)) = done {
        tracing::warn!(%error, "cannot give back space");
    }
    *last = Some(Instant::now());
}

fn has_space(member: &Member) -> bool {
    let limit = member.quota_bytes();
    let free_below = limit / 100 * FREE_BELOW;
    let below_quota = limit == 0 || member.engine().store().size().allocated < free_below;
    // A little more than the reserve, so that the alarm does not come and go.
    let reserve = member.parts.disk_reserve;
    below_quota && member.disk_room() >= reserve / 100 * (100 - FREE_BELOW)
}
