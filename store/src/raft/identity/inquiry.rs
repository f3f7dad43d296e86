//! Asking the other members whether they know this one, before it takes part with an empty folder.
//!
//! Decides nothing about consensus. Invariant: only the leader knows which members hold a part of its log, so nobody is
//! taken for new while a leader is there that has not been heard.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use corten_base::backoff::Backoff;
use corten_proto::corten::store::v1 as pb;
use corten_store_core::level;
use tokio::time::{Instant, sleep, timeout};

use super::{Identity, IdentityError};
use crate::config::Settings;
use crate::peer::connect;
use crate::peer::dial::{Dial, HostNetwork};
use crate::raft::codec;
use crate::raft::types::{MemberId, Node};
use crate::repair::peers;

/// A joining member asks this long for the cluster before it gives up.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a founding member waits for a leader that others name, and for members that are there and very busy. One that
/// is starting says so, and one that is down refuses the connection.
const FOUNDING_ASK: Duration = Duration::from_secs(10);
/// How long a founding member asks again where nothing answers and nothing refuses: a host that is off looks like that,
/// and so does one that is overloaded for a moment.
const SILENCE: Duration = Duration::from_secs(3);

/// How long one member may take to name the leader.
const LEADER_ASK: Duration = Duration::from_secs(2);

/// What one member says.
enum Answer {
    /// It works in a cluster.
    Works(pb::MembersResponse),
    /// It is starting, or nothing listens there.
    Absent,
    /// Nothing is known about it.
    Silent,
}

/// Asks the other founding members whether this one has worked before: then its folder was lost, and it must not forget
/// what it voted for.
pub(crate) async fn refuse_if_known(
    settings: &Settings,
    own: Identity,
) -> Result<(), IdentityError> {
    let began = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(500));
    loop {
        let answers = ask_all(settings, FOUNDING_ASK).await;
        let here = |answer: &&pb::MembersResponse| answer.cluster_id == own.cluster;
        let working = || working(&answers).filter(here);
        refuse_beyond(settings, working())?;
        if working().any(|answer| has_worked(answer, own.member)) {
            return Err(IdentityError::DataLost(settings.config.name.clone()));
        }
        let waited = began.elapsed();
        let leader_heard = working().any(|answer| answer.leads);
        let leader_named = working().any(|answer| answer.leader != 0);
        let silent = answers
            .iter()
            .any(|answer| matches!(answer, Answer::Silent));
        let ask_again =
            !leader_heard && (leader_named && waited < FOUNDING_ASK || silent && waited < SILENCE);
        if !ask_again {
            if leader_named && !leader_heard {
                tracing::warn!("the leader does not say whether this member is known");
            }
            return Ok(());
        }
        sleep(backoff.next_delay()).await;
    }
}

/// The leader of this member's cluster, as the others name it, and where it is.
pub(crate) async fn leader(settings: &Settings, own: Identity) -> Option<(MemberId, Node)> {
    let answers = ask_all(settings, LEADER_ASK).await;
    let here = working(&answers).filter(|answer| answer.cluster_id == own.cluster);
    // Who leads knows best; a follower may name one that was.
    let mut named: Vec<_> = here.filter(|answer| answer.leader != 0).collect();
    named.sort_by_key(|answer| !answer.leads);
    let node = |answer: &&pb::MembersResponse| {
        let found = nodes(answer).iter().find(|node| node.id == answer.leader)?;
        Some(codec::node(found))
    };
    named
        .iter()
        .filter_map(node)
        .find(|(id, _)| *id != own.member)
}

/// Finds this member in the membership of a running cluster, by its peer URLs.
pub(super) async fn join(settings: &Settings) -> Result<Identity, IdentityError> {
    let give_up = Instant::now() + JOIN_TIMEOUT;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let answers = ask_all(settings, JOIN_TIMEOUT).await;
        let found: Vec<_> = working(&answers)
            .filter_map(|answer| Some((find(answer, &settings.advertise_peer)?, answer)))
            .collect();
        let known = |(id, answer): &(Identity, &pb::MembersResponse)| has_worked(answer, id.member);
        if found.iter().any(known) {
            return Err(IdentityError::DataLost(settings.config.name.clone()));
        }
        let late = Instant::now() >= give_up;
        // Followers may not know yet that it has worked; they are believed only when no leader can be heard.
        refuse_beyond(settings, found.iter().map(|(_, answer)| *answer))?;
        if let Some((identity, _)) = found.iter().find(|(_, answer)| answer.leads || late) {
            return Ok(*identity);
        }
        if late {
            return Err(IdentityError::NotAMember(settings.advertise_peer.clone()));
        }
        tracing::info!("no leader lists this member yet");
        sleep(backoff.next_delay()).await;
    }
}

fn working(answers: &[Answer]) -> impl Iterator<Item = &pb::MembersResponse> {
    answers.iter().filter_map(|answer| match answer {
        Answer::Works(answer) => Some(answer),
        Answer::Absent | Answer::Silent => None,
    })
}

async fn ask_all(settings: &Settings, patience: Duration) -> Vec<Answer> {
    let dialer = dialer(settings);
    let others = others(settings);
    let asked = others.iter().map(|urls| {
        let name = urls.join(",");
        let mut client = connect::client(0, MemberId(0), urls, Arc::clone(&dialer));
        async move {
            let call = client.members(pb::MembersRequest {});
            match timeout(patience, call).await {
                Ok(Ok(answer)) => match answer.into_inner() {
                    // One that is starting knows no cluster.
                    answer if answer.cluster_id == 0 => Answer::Absent,
                    answer => Answer::Works(answer),
                },
                Ok(Err(status)) => {
                    tracing::debug!(member = %name, %status, "cannot ask whether we are known");
                    match is_refused(&status) {
                        true => Answer::Absent,
                        false => Answer::Silent,
                    }
                }
                Err(_) => {
                    tracing::warn!(member = %name, "does not say whether we are known");
                    Answer::Silent
                }
            }
        }
    });
    futures::future::join_all(asked).await
}

/// Peer URLs of the other members: those it was configured with, and those it knew last.
fn others(settings: &Settings) -> peers::Peers {
    let founders = settings.cluster.iter();
    let founders = founders.filter(|(name, _)| **name != settings.config.name);
    let mut others: peers::Peers = founders.map(|(_, urls)| urls.clone()).collect();
    let mut known = peers::known(&settings.config.data_dir);
    known.remove(&settings.advertise_peer);
    others.append(&mut known);
    others
}

/// The way to other members, before there is consensus.
pub(crate) fn dialer(settings: &Settings) -> Arc<dyn Dial> {
    Arc::new(HostNetwork::new(peer_tls(settings)))
}

/// Nothing listens at the other end.
fn is_refused(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind == Some(io::ErrorKind::ConnectionRefused) {
            return true;
        }
        source = error.source();
    }
    false
}

fn peer_tls(settings: &Settings) -> Option<Arc<rustls::ClientConfig>> {
    let files = settings.peer_tls.as_ref()?;
    corten_base::tls::client_config(files)
        .map_err(|error| tracing::error!(%error, "cannot read the peer TLS files"))
        .ok()
}

fn nodes(answer: &pb::MembersResponse) -> &[pb::MemberNode] {
    let stored = answer.membership.as_ref();
    let membership = stored.and_then(|stored| stored.membership.as_ref());
    membership.map_or(&[][..], |membership| &membership.nodes)
}

/// A member must not join a cluster whose log it may not be able to read.
fn refuse_beyond<'a>(
    settings: &Settings,
    mut answers: impl Iterator<Item = &'a pb::MembersResponse>,
) -> Result<(), IdentityError> {
    let known = settings.config.max_level;
    match answers.find(|answer| answer.level > known) {
        Some(answer) => Err(IdentityError::Level(level::beyond(answer.level, known))),
        None => Ok(()),
    }
}

/// Whether the answering member knows this one as started, or as holding a part of the log.
fn has_worked(answer: &pb::MembersResponse, member: MemberId) -> bool {
    let started = |node: &pb::MemberNode| node.id == member.0 && node.started;
    nodes(answer).iter().any(started) || answer.have_log.contains(&member.0)
}

/// The member with these peer URLs.
fn find(answer: &pb::MembersResponse, own_urls: &[String]) -> Option<Identity> {
    let same = |node: &&pb::MemberNode| {
        let (mut theirs, mut ours) = (node.peer_urls.clone(), own_urls.to_vec());
        theirs.sort();
        ours.sort();
        theirs == ours
    };
    let (member, _) = codec::node(nodes(answer).iter().find(same)?);
    Some(Identity {
        cluster: answer.cluster_id,
        member,
    })
}
