//! A one-member cluster from what a surviving member has, when a majority is lost for good.
//!
//! Not a way around a quorum that is merely away, and not restoring a backup. Invariant: the survivor's folder is not
//! changed but set aside, and the new cluster has another id, so that members of the old one that come back are refused.

mod ask;
pub(crate) mod replay;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_proto::etcd::etcdserverpb::AlarmType;
use corten_store_core::backend::{Backend, BackendError};
use corten_store_core::{Refounding, Store};
use jiff::Timestamp;

use crate::config::{Config, ConfigError, Settings};
use crate::raft::identity::{self, Identity, IdentityError};
use crate::raft::snapshot::{SnapshotDir, sync_dir};
use crate::raft::tables::Tables as _;
use crate::raft::types::{LogId, MemberId, Node, StoredMembership};
use crate::raft::wal::{Wal, WalError, WalOptions};
use crate::restore::{self, RestoreError, Restored};
use crate::rocks::{Rocks, RocksOptions};
use ask::{Answer, Answers};

/// What the operator says.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// Names or ids (hexadecimal) of the members that are gone for good.
    pub lost: Vec<String>,
    /// Goes on although something better may exist.
    pub accept_data_loss: bool,
    /// How the new cluster begins.
    pub how: Refounding,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The new cluster's only member.
    pub member: Restored,
    /// The old cluster's id.
    pub old_cluster_id: u64,
    /// Term and index of the last entry that the survivor had.
    pub last: (u64, u64),
    /// Entries that were in its log and not yet in its state.
    pub replayed: u64,
    /// Where the survivor's folder is now.
    pub set_aside: PathBuf,
    /// Objections that were overruled.
    pub overruled: Vec<Refusal>,
}

/// Why a member should not, or must not, become a cluster of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The cluster works.
    #[error("the cluster works: {0} leads it with a quorum; replace single members instead")]
    QuorumAnswers(String),
    /// The cluster could work.
    #[error(
        "{alive} of {voters} voting members are there ({names}), this one counted, which is a quorum: start this member as it \
         is, and mend what keeps them apart"
    )]
    QuorumPossible {
        /// Voters that answer, and this one.
        alive: usize,
        /// All voters.
        voters: usize,
        /// Who answers.
        names: String,
    },
    /// The cluster never had more than this member.
    #[error("this member is the only voter of its cluster: nothing is lost, start it as it is")]
    Alone,
    /// A member that does not answer may be at work behind a network cut.
    #[error(
        "{0} does not answer, but may be at work where this host cannot see it, and would go on beside the new cluster; make \
         sure that it is gone for good and say so: --lost={0}"
    )]
    NotDeclaredLost(String),
    /// A member that was said to be gone is not.
    #[error("{0} was declared lost, but answers: stop it for good first, or recover from it")]
    NotLost(String),
    /// Another survivor has more.
    #[error(
        "{name} has a later log, up to term {theirs_term} index {theirs_index}; this one ends at term {ours_term} index \
         {ours_index}: what is between would be lost; recover from {name} instead"
    )]
    BetterSurvivor {
        /// Which.
        name: String,
        /// Its last entry.
        theirs_term: u64,
        /// Its last entry.
        theirs_index: u64,
        /// This member's.
        ours_term: u64,
        /// This member's.
        ours_index: u64,
    },
    /// A survivor does not say what it has.
    #[error(
        "{0} is there but does not say how far its log goes; it may have more than this member"
    )]
    Unclear(String),
    /// A learner never confirmed a write.
    #[error(
        "this member is a learner: no write waited for it, so any number of acknowledged ones may be missing; recover from a \
         voting member instead"
    )]
    Learner,
    /// Its data is known to be wrong.
    #[error(
        "this member's data was found to differ from the others' (alarm CORRUPT); recover from another one"
    )]
    Corrupt,
}

impl Refusal {
    /// Whether `--accept-data-loss` overrules it. The others are about two clusters at once, and are never overruled.
    pub fn is_about_data(&self) -> bool {
        matches!(
            self,
            Self::BetterSurvivor { .. } | Self::Unclear(_) | Self::Learner | Self::Corrupt
        )
    }
}

/// Why nothing was recovered. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The configuration is faulty.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no member here.
    #[error("there is no member's data in {0}")]
    NoData(PathBuf),
    /// The folder is another member's, or its identity is damaged.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The member runs, or its log is damaged.
    #[error(
        "the log cannot be used: if the member runs, stop it; if its log is damaged, use another survivor or a backup"
    )]
    Log(#[from] WalError),
    /// The state is damaged.
    #[error("the state cannot be used: use another survivor or a backup")]
    State(#[from] BackendError),
    /// The log does not go on where the state ends.
    #[error("the log begins after {0:?}, where the state ends: use another survivor or a backup")]
    Gap(Option<u64>),
    /// An entry of the log cannot be read.
    #[error("the log cannot be read")]
    Entry(#[source] io::Error),
    /// The membership does not hold this member.
    #[error(
        "the membership in this folder does not list this member: it was removed from its cluster"
    )]
    NotAMember,
    /// It would be unsafe.
    #[error("refused: {}{}", list(.0), hint(.0))]
    Refused(Vec<Refusal>),
    /// The new folder cannot be made.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The new folder cannot take the old one's place.
    #[error(
        "cannot put the new folder in the place of {0} (a mount point cannot be replaced: use a folder below it)"
    )]
    Swap(PathBuf, #[source] io::Error),
}

fn list(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

fn hint(refusals: &[Refusal]) -> &'static str {
    if refusals.iter().all(Refusal::is_about_data) {
        " (--accept-data-loss goes on all the same)"
    } else {
        ""
    }
}

/// What the survivor has.
struct Survivor {
    identity: Identity,
    wal: Wal,
    rocks: Arc<Rocks>,
    membership: StoredMembership,
    /// The last entry, in the log or in the state.
    last: LogId,
    corrupt: bool,
}

impl Survivor {
    fn open(settings: &Settings) -> Result<Self, RecoverError> {
        let dir = &settings.config.data_dir;
        let (identity, name) =
            identity::load(dir)?.ok_or_else(|| RecoverError::NoData(dir.clone()))?;
        if name != settings.config.name {
            return Err(RecoverError::Identity(IdentityError::OtherMember {
                found: name,
                expected: settings.config.name.clone(),
            }));
        }
        // First, since it tells whether the member runs.
        let wal = Wal::open(WalOptions::new(dir.join("wal")))?;
        let rocks = Arc::new(Rocks::open(&dir.join("state"), RocksOptions::default())?);
        let (store, writer) = Store::open(Arc::clone(&rocks) as Arc<dyn Backend>)?;
        let applied = writer.applied();
        let membership = replay::membership(&wal, &writer)?;
        let corrupt = store.alarms().is_ok_and(|alarms| {
            alarms.iter().any(|alarm| {
                alarm.member_id == identity.member.0 && alarm.alarm() == AlarmType::Corrupt
            })
        });
        let applied = applied.map(|at| LogId::new_term_index(at.term, at.index));
        let last = wal.bounds().1.max(applied);
        Ok(Self {
            identity,
            wal,
            rocks,
            membership,
            last: last.ok_or_else(|| RecoverError::NoData(dir.clone()))?,
            corrupt,
        })
    }

    fn node(&self, id: MemberId) -> Option<&Node> {
        self.membership
            .membership()
            .nodes()
            .find_map(|(other, node)| (*other == id).then_some(node))
    }

    /// Every other member.
    fn others(&self) -> BTreeMap<MemberId, Node> {
        let nodes = self.membership.membership().nodes();
        nodes
            .filter(|(id, _)| **id != self.identity.member)
            .map(|(id, node)| (*id, node.clone()))
            .collect()
    }
}

/// Makes a one-member cluster of the folder of the member that `config` describes, or says why that would be unsafe. The
/// member must not run; afterwards it is started with the same configuration.
pub async fn recover(config: &Config, recovery: &Recovery) -> Result<Recovered, RecoverError> {
    let settings = config.check()?;
    let survivor = Survivor::open(&settings)?;
    let node = survivor.node(survivor.identity.member);
    let node = node.ok_or(RecoverError::NotAMember)?.clone();
    let answers = ask::all(&settings, survivor.identity.cluster, survivor.others()).await;
    let objections = objections(&survivor, &answers, recovery);
    let overrule = recovery.accept_data_loss && objections.iter().all(Refusal::is_about_data);
    if !objections.is_empty() && !overrule {
        return Err(RecoverError::Refused(objections));
    }
    let settings = alone(settings, &node);
    let (building, (member, replayed)) = restore::build_beside(&config.data_dir, |dir| {
        make(&survivor, &settings, dir, recovery.how)
    })?;
    survivor.rocks.close();
    survivor.wal.close();
    let set_aside = swap(&building, &config.data_dir)
        .map_err(|error| RecoverError::Swap(config.data_dir.clone(), error))?;
    Ok(Recovered {
        member,
        old_cluster_id: survivor.identity.cluster,
        last: (survivor.last.leader_id.term, survivor.last.index),
        replayed,
        set_aside,
        overruled: objections,
    })
}

/// What speaks against it. Pure, but for what was asked before.
fn objections(survivor: &Survivor, answers: &Answers, recovery: &Recovery) -> Vec<Refusal> {
    let membership = survivor.membership.membership();
    let voters: Vec<MemberId> = membership.voter_ids().collect();
    let me = survivor.identity.member;
    if voters == [me] {
        return vec![Refusal::Alone];
    }
    let mut found = Vec::new();
    let leader = answers.values().find(|(_, answer)| answer.leads());
    if let Some((node, _)) = leader {
        found.push(Refusal::QuorumAnswers(node.name.clone()));
    }
    let there = |id: &&MemberId| {
        let answer = answers.get(*id).map(|(_, answer)| answer);
        **id == me || answer.is_some_and(Answer::is_there)
    };
    let alive: Vec<&MemberId> = voters.iter().filter(there).collect();
    if leader.is_none() && alive.len() > voters.len() / 2 {
        let names = alive
            .iter()
            .filter_map(|id| Some(survivor.node(**id)?.name.clone()));
        found.push(Refusal::QuorumPossible {
            alive: alive.len(),
            voters: voters.len(),
            names: names.collect::<Vec<_>>().join(", "),
        });
    }
    for (id, (node, answer)) in answers {
        let name = if node.name.is_empty() {
            id.to_string()
        } else {
            node.name.clone()
        };
        let declared = recovery
            .lost
            .iter()
            .any(|lost| *lost == name || *lost == id.to_string());
        match answer {
            Answer::Silent if !declared && voters.contains(id) => {
                found.push(Refusal::NotDeclaredLost(name));
            }
            Answer::Silent => {}
            Answer::There { .. } if declared => found.push(Refusal::NotLost(name)),
            Answer::There { last: None, .. } => found.push(Refusal::Unclear(name)),
            Answer::There {
                last: Some(last), ..
            } => {
                if *last > survivor.last {
                    found.push(Refusal::BetterSurvivor {
                        name,
                        theirs_term: last.leader_id.term,
                        theirs_index: last.index,
                        ours_term: survivor.last.leader_id.term,
                        ours_index: survivor.last.index,
                    });
                }
            }
        }
    }
    if !voters.contains(&me) {
        found.push(Refusal::Learner);
    }
    if survivor.corrupt {
        found.push(Refusal::Corrupt);
    }
    found
}

/// The settings of the new cluster: this member alone, where the others knew it, under a token that was never used.
fn alone(mut settings: Settings, node: &Node) -> Settings {
    let name = settings.config.name.clone();
    let token = &settings.config.initial_cluster_token;
    settings.config.initial_cluster_token =
        format!("{token}-recovered-{:016x}", rand::random::<u64>());
    settings.advertise_peer = node.peer_urls.clone();
    settings.cluster = BTreeMap::from([(name, node.peer_urls.clone())]);
    settings
}

fn make(
    survivor: &Survivor,
    settings: &Settings,
    dir: &Path,
    how: Refounding,
) -> Result<(Restored, u64), RecoverError> {
    let mut replayed = 0;
    let member = restore::found(settings, dir, how, |state| {
        let failed = |error| RestoreError::Io(state.to_owned(), error);
        std::fs::create_dir_all(state).map_err(failed)?;
        // Shares the files of the old state, of which none is ever changed.
        let copy = SnapshotDir::new(state.join("db-1"));
        survivor.rocks.checkpoint(&copy)?;
        copy.keep();
        let rocks = Arc::new(Rocks::open(state, RocksOptions::default())?);
        let done = replay::replay(&survivor.wal, &rocks, u64::MAX);
        if done.is_err() {
            rocks.close();
        }
        replayed = done?;
        Ok::<_, RecoverError>((rocks, replayed))
    })?;
    Ok((member, replayed))
}

/// Puts `new` in the place of `dir` in one step, and sets the old one aside.
fn swap(new: &Path, dir: &Path) -> io::Result<PathBuf> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let at = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let mut aside = dir.to_owned().into_os_string();
    aside.push(format!(".before-recovery-{at}"));
    let aside = PathBuf::from(aside);
    renameat_with(CWD, new, CWD, dir, RenameFlags::EXCHANGE)?;
    std::fs::rename(new, &aside)?;
    sync_dir(restore::parent(dir))?;
    Ok(aside)
}
