//! Who this member is: derived once, kept in the data folder, never changed.
//!
//! Not the membership itself, which is in the log. Invariant: a data folder belongs to one member of one cluster; a
//! member that finds another identity there does not start.

pub(crate) mod inquiry;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use corten_proto::corten::store::v1 as pb;
use prost::Message;
use sha2::{Digest, Sha256};

use super::snapshot::write_whole;
use super::types::{MemberId, Node};
use crate::config::{ClusterState, Settings};

const FORMAT: u32 = 1;
const FILE: &str = "identity";

/// Ids of this member and its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: u64,
    pub(crate) member: MemberId,
}

/// Why a member cannot tell who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("identity file in {0}")]
    Io(std::path::PathBuf, #[source] io::Error),
    /// The file is not one of this version.
    #[error("the identity file in {0} is damaged or of another version")]
    Damaged(std::path::PathBuf),
    /// The folder is another member's.
    #[error("the data folder belongs to member {found:?}, not to {expected:?}")]
    OtherMember {
        /// Name in the folder.
        found: String,
        /// Name in the configuration.
        expected: String,
    },
    /// The cluster has seen this member at work, but its data is not here.
    #[error(
        "member {0:?} has worked in this cluster before and its data is gone: an empty member under an old identity \
         would forget what it voted for; remove it from the cluster, add it again, and start it as existing"
    )]
    DataLost(String),
    /// The cluster has agreed on what this version does not understand.
    #[error("{0}")]
    Level(String),
    /// Nobody in the cluster knows this member.
    #[error("no member of the cluster lists {0:?}; add it first, with exactly these peer URLs")]
    NotAMember(Vec<String>),
}

/// Id of a founding member.
pub(crate) fn member_id(token: &str, name: &str, peer_urls: &[String]) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let parts = ["member", token, name].into_iter().chain(urls);
    MemberId(hash(parts.map(str::as_bytes)))
}

/// Id of a member added later; `salt` differs each time, so that an address is never an old member again.
pub(crate) fn added_member_id(cluster: u64, peer_urls: &[String], salt: u64) -> MemberId {
    let (cluster, salt) = (cluster.to_be_bytes(), salt.to_be_bytes());
    let urls = peer_urls.iter().map(String::as_bytes);
    MemberId(hash(
        [&b"added"[..], &cluster, &salt].into_iter().chain(urls),
    ))
}

/// Id of the member that takes the place of one that lost its log: the same however often it is asked for, and never one
/// that was added by hand.
pub(crate) fn replacement_id(cluster: u64, lost: MemberId) -> MemberId {
    let parts = [cluster.to_be_bytes(), lost.0.to_be_bytes()];
    MemberId(hash([&b"replacement"[..], &parts[0], &parts[1]]))
}

fn cluster_id(token: &str, members: &BTreeMap<MemberId, Node>) -> u64 {
    let ids: Vec<[u8; 8]> = members.keys().map(|id| id.0.to_be_bytes()).collect();
    hash(
        [&b"cluster"[..], token.as_bytes()]
            .into_iter()
            .chain(ids.iter().map(|id| &id[..])),
    )
}

/// Never zero, which stands for "none" in etcd's messages.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("eight bytes")).max(1)
}

/// The members of a cluster that is being founded.
pub(crate) fn founding_members(settings: &Settings) -> BTreeMap<MemberId, Node> {
    let token = &settings.config.initial_cluster_token;
    let member = |(name, urls): (&String, &Vec<String>)| {
        let node = Node {
            name: name.clone(),
            peer_urls: urls.clone(),
            ..Node::default()
        };
        (member_id(token, name, urls), node)
    };
    settings.cluster.iter().map(member).collect()
}

/// The identity of a member that founds a cluster.
pub(crate) fn founding(settings: &Settings) -> Identity {
    let token = &settings.config.initial_cluster_token;
    let name = &settings.config.name;
    Identity {
        cluster: cluster_id(token, &founding_members(settings)),
        member: member_id(token, name, &settings.cluster[name]),
    }
}

/// Reads the identity, or finds it out and writes it down.
pub(crate) async fn establish(settings: &Settings) -> Result<Identity, IdentityError> {
    let dir = &settings.config.data_dir;
    if let Some((identity, name)) = load(dir)? {
        if name != settings.config.name {
            return Err(IdentityError::OtherMember {
                found: name,
                expected: settings.config.name.clone(),
            });
        }
        return Ok(identity);
    }
    let identity = match settings.config.initial_cluster_state {
        ClusterState::New => {
            let identity = founding(settings);
            inquiry::refuse_if_known(settings, identity).await?;
            identity
        }
        ClusterState::Existing => inquiry::join(settings).await?,
    };
    save(dir, identity, &settings.config.name)
        .map_err(|error| IdentityError::Io(dir.clone(), error))?;
    Ok(identity)
}

/// Reads the identity of a folder, with the member's name.
pub(crate) fn load(dir: &Path) -> Result<Option<(Identity, String)>, IdentityError> {
    let data = match std::fs::read(dir.join(FILE)) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IdentityError::Io(dir.to_owned(), error)),
    };
    let damaged = || IdentityError::Damaged(dir.to_owned());
    let (message, crc) = data
        .split_at_checked(data.len().saturating_sub(4))
        .ok_or_else(damaged)?;
    if crc32c::crc32c(message).to_le_bytes() != crc {
        return Err(damaged());
    }
    let message = pb::Identity::decode(message).map_err(|_| damaged())?;
    if message.format != FORMAT {
        return Err(damaged());
    }
    let identity = Identity {
        cluster: message.cluster_id,
        member: MemberId(message.member_id),
    };
    Ok(Some((identity, message.name)))
}

pub(crate) fn save(dir: &Path, identity: Identity, name: &str) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let message = pb::Identity {
        format: FORMAT,
        cluster_id: identity.cluster,
        member_id: identity.member.0,
        name: name.to_owned(),
    };
    let mut data = message.encode_to_vec();
    data.extend_from_slice(&crc32c::crc32c(&data).to_le_bytes());
    write_whole(dir, FILE, &data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn an_identity_stays_with_its_folder() {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = Config {
            data_dir: dir.path().to_owned(),
            ..Config::default()
        };
        let first = establish(&config.check().expect("usable"))
            .await
            .expect("established");
        let moved = Config {
            listen_peer_urls: vec!["http://127.0.0.1:9".to_owned()],
            ..config.clone()
        };
        assert_eq!(
            establish(&moved.check().expect("usable"))
                .await
                .expect("read"),
            first
        );
        let renamed = Config {
            name: "other".to_owned(),
            ..config
        };
        let error = establish(&renamed.check().expect("usable"))
            .await
            .expect_err("refused");
        assert!(
            matches!(error, IdentityError::OtherMember { .. }),
            "{error}"
        );
    }

    #[test]
    fn ids_differ_by_every_part() {
        let urls = ["http://a:1".to_owned()];
        let base = member_id("t", "n", &urls);
        assert_ne!(base, member_id("u", "n", &urls));
        assert_ne!(base, member_id("t", "m", &urls));
        assert_ne!(base, member_id("t", "n", &["http://a:2".to_owned()]));
        assert_ne!(added_member_id(1, &urls, 1), added_member_id(1, &urls, 2));
    }
}
