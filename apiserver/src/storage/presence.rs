//! Which API servers live, told by keys that expire with a lease of the store.
//!
//! The store's leader measures the time, on a clock of its own; no two hosts' clocks are ever compared. Upstream's key, so that
//! its servers and ours see each other. Invariant: a server that stops announcing itself is gone from here within its time to
//! live and a second.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{Error, Op, RangeQuery, Store, Txn};

const PREFIX: &str = "/registry/masterleases/";

fn key(ip: IpAddr) -> String {
    format!("{PREFIX}{ip}")
}

impl Store {
    /// Says that the server at this address lives, for `ttl`.
    pub async fn announce(&self, ip: IpAddr, value: Bytes, ttl: Duration) -> Result<(), Error> {
        let put = Op::Put {
            key: key(ip),
            value,
            ttl: Some(ttl),
        };
        self.presence(put).await
    }

    /// Takes an address back before its time is over.
    pub async fn withdraw(&self, ip: IpAddr) -> Result<(), Error> {
        self.presence(Op::Delete { key: key(ip) }).await
    }

    /// The addresses of all servers that live.
    pub async fn announced(&self) -> Result<BTreeSet<IpAddr>, Error> {
        let range = self.range(&RangeQuery::prefix(PREFIX)).await?;
        let ips = range.items.iter();
        Ok(ips
            .filter_map(|stored| stored.key[PREFIX.len()..].parse().ok())
            .collect())
    }

    /// Nobody else writes a server's own key: no guard is needed.
    async fn presence(&self, op: Op) -> Result<(), Error> {
        let txn = Txn {
            guards: Vec::new(),
            ops: vec![op],
        };
        self.commit(&txn).await.map(drop)
    }
}
