//! Tokens: what a user shows after it has shown its password once.
//!
//! Not kept anywhere, unlike etcd's: a token says whose it is and how long, sealed with a key that all members have in
//! their state. So every member checks it alone, giving one out is no log entry, and a member that restarts or comes late
//! knows them all. The price: it is compared with the wall clock, so members' clocks must agree to seconds, and its time
//! does not start over when it is used; etcd's clients fetch a new one by themselves.
//! Invariant: a token is void once its user is gone or has another password, and once auth was disabled.
//!
//! ```text
//!   base64url( version (1)  end, seconds since 1970 (8)  since (8)  name  HMAC-SHA256 (32) )
//! ```

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corten_store_core::auth::Auth;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 8 + 8;
const SEAL: usize = 32;

/// A token for a user that has just proved who it is; none if it is not there any more.
pub(crate) fn give(auth: &Auth, user: &str, now: i64, ttl: Duration) -> Option<String> {
    let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    let since = auth.user(user)?.since;
    let mut token = Vec::with_capacity(HEAD + user.len() + SEAL);
    token.push(VERSION);
    token.extend_from_slice(&now.saturating_add(ttl).to_be_bytes());
    token.extend_from_slice(&since.to_be_bytes());
    token.extend_from_slice(user.as_bytes());
    Some(sealed(auth, token))
}

/// What a token says, with the seal that makes it one.
pub(crate) fn sealed(auth: &Auth, mut text: Vec<u8>) -> String {
    let seal = hmac::sign(&key(auth), &text);
    text.extend_from_slice(seal.as_ref());
    URL_SAFE_NO_PAD.encode(text)
}

/// Whose token this is, if it is good.
pub(crate) fn check(auth: &Auth, token: &str, now: i64) -> Option<String> {
    let token = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (text, seal) = token.split_at_checked(token.len().checked_sub(SEAL)?)?;
    // Without a key anybody could make a seal.
    if auth.token_key().is_empty() || hmac::verify(&key(auth), text, seal).is_err() {
        return None;
    }
    let (version, rest) = text.split_first()?;
    let (end, rest) = rest.split_first_chunk::<8>()?;
    let (since, name) = rest.split_first_chunk::<8>()?;
    let name = std::str::from_utf8(name).ok()?;
    let good = *version == VERSION
        && now < i64::from_be_bytes(*end)
        && auth.user(name)?.since == u64::from_be_bytes(*since);
    good.then(|| name.to_owned())
}

fn key(auth: &Auth) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, auth.token_key())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_proto::corten::store::v1 as pb;
    use corten_proto::etcd::etcdserverpb as etcd;
    use corten_store_core::memory::MemoryBackend;
    use corten_store_core::{Position, Store, Writer, level};
    use pb::auth_command::Command as Change;
    use pb::raft_request::Command;

    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    struct Users {
        store: Store,
        writer: Writer,
        index: u64,
    }

    impl Users {
        fn new() -> Self {
            let (store, writer) = Store::open(Arc::new(MemoryBackend::new())).expect("opened");
            let mut users = Self {
                store,
                writer,
                index: 0,
            };
            let level = level::AUTH;
            users.apply(Command::ClusterLevel(pb::ClusterLevel { level }));
            users.change(Change::UserAdd(named("root")));
            users.change(Change::UserGrantRole(etcd::AuthUserGrantRoleRequest {
                user: "root".to_owned(),
                role: "root".to_owned(),
            }));
            users.change(Change::UserAdd(named("ada")));
            users.enable(b"first key");
            users
        }

        fn enable(&mut self, key: &'static [u8]) {
            let token_key = bytes::Bytes::from_static(key);
            self.change(Change::Enable(pb::AuthEnable { token_key }));
        }

        fn change(&mut self, change: Change) {
            let command = Some(change);
            self.apply(Command::Auth(pb::AuthCommand { command }));
        }

        fn apply(&mut self, command: Command) {
            self.index += 1;
            let request = pb::RaftRequest {
                user: "root".to_owned(),
                auth_revision: self.store.auth().revision(),
                command: Some(command),
                ..Default::default()
            };
            let mut round = self.writer.begin();
            let at = Position {
                term: 1,
                index: self.index,
            };
            let reply = round.apply(at, &request).expect("applied");
            let refused = matches!(reply.result, Some(pb::raft_reply::Result::Refusal(_)));
            assert!(!refused, "{reply:?}");
            round.commit().expect("committed");
        }

        fn token(&self, now: i64) -> String {
            give(&self.store.auth(), "ada", now, TTL).expect("ada is there")
        }

        fn owner(&self, token: &str, now: i64) -> Option<String> {
            check(&self.store.auth(), token, now)
        }
    }

    fn named(name: &str) -> pb::AuthUserPassword {
        pb::AuthUserPassword {
            name: name.to_owned(),
            password_hash: "hash".to_owned(),
            no_password: false,
        }
    }

    #[test]
    fn a_token_is_good_for_its_time_and_nobody_can_change_it() {
        let users = Users::new();
        let token = users.token(1_000);
        assert_eq!(users.owner(&token, 1_299).as_deref(), Some("ada"));
        assert_eq!(users.owner(&token, 1_300), None, "its time is over");
        for forged in ["", "x", "rHhd.5", &token[1..], &token[..token.len() - 1]] {
            assert_eq!(users.owner(forged, 1_000), None, "{forged}");
        }
        let mut raw = URL_SAFE_NO_PAD.decode(&token).expect("our encoding");
        for at in 0..raw.len() {
            raw[at] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(&raw);
            assert_eq!(users.owner(&changed, 1_000), None, "byte {at}");
            raw[at] ^= 1;
        }
    }

    #[test]
    fn a_new_password_a_new_user_and_a_new_key_make_tokens_void() {
        let mut users = Users::new();
        let token = users.token(0);
        users.change(Change::UserChangePassword(named("root")));
        assert!(users.owner(&token, 1).is_some(), "it was another's");
        users.change(Change::UserChangePassword(named("ada")));
        assert_eq!(users.owner(&token, 1), None);
        let token = users.token(0);
        let name = "ada".to_owned();
        users.change(Change::UserDelete(etcd::AuthUserDeleteRequest { name }));
        assert_eq!(users.owner(&token, 1), None);
        users.change(Change::UserAdd(named("ada")));
        assert_eq!(users.owner(&token, 1), None, "another user of that name");
        let token = users.token(0);
        users.change(Change::Disable(etcd::AuthDisableRequest {}));
        assert_eq!(users.owner(&token, 1), None);
        users.enable(b"second key");
        assert_eq!(users.owner(&token, 1), None);
    }
}
