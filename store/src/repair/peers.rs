//! Where the other members are, as this one knew last: for a start at which its log, which says it, cannot be read.
//!
//! Not who they are: whoever is asked says that. Invariant: the file is whole or not there; losing it costs a repair, never
//! more.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use crate::raft::snapshot::write_whole;

/// Peer URLs of the other members, a member a line.
const FILE: &str = "peers";

/// Peer URLs of each of the others.
pub(crate) type Peers = BTreeSet<Vec<String>>;

/// Writes them down, unless that is what the file says.
pub(crate) fn note(dir: &Path, peers: &Peers) -> io::Result<()> {
    if dir.join(FILE).exists() && known(dir) == *peers {
        return Ok(());
    }
    let line = |urls: &Vec<String>| urls.join(" ") + "\n";
    let text: String = peers.iter().map(line).collect();
    write_whole(dir, FILE, text.as_bytes())
}

/// What the file says; nothing when it cannot be read.
pub(crate) fn known(dir: &Path) -> Peers {
    let text = std::fs::read_to_string(dir.join(FILE)).unwrap_or_default();
    let urls = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let mut peers: Peers = text.lines().map(urls).collect();
    peers.remove(&Vec::new());
    peers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_was_noted_last() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert!(known(dir.path()).is_empty());
        let one = vec!["http://10.0.0.2:2380".to_owned()];
        let two = vec![
            "http://10.0.0.3:2380".to_owned(),
            "http://c:2380".to_owned(),
        ];
        for peers in [
            Peers::from([one.clone()]),
            Peers::from([one, two]),
            Peers::new(),
        ] {
            note(dir.path(), &peers).expect("noted");
            assert_eq!(known(dir.path()), peers);
        }
        std::fs::write(dir.path().join(FILE), [0xff, 0xfe, b'\n']).expect("damaged");
        assert!(known(dir.path()).is_empty());
    }
}
