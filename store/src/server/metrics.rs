//! The member's metrics, under etcd's names where they mean the same.
//!
//! Read at scrape time from what exists anyway. Invariant: no label grows with the number of keys or clients.

use std::sync::{Arc, Weak};

use corten_base::admin::AdminServer;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::raft::member::Member;
use crate::replica::usage::{PrefixUsage, Usage};

pub(super) fn register(admin: &AdminServer, member: &Arc<Member>) {
    let collector = MemberCollector(Arc::downgrade(member));
    admin.with_registry(|registry| registry.register_collector(Box::new(collector)));
}

#[derive(Debug)]
struct MemberCollector(Weak<Member>);

impl Collector for MemberCollector {
    #[expect(clippy::too_many_lines, reason = "one list of metrics, one line each")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(member) = self.0.upgrade() else {
            return Ok(());
        };
        let status = member.status();
        let size = member.engine().store().size();
        let backlog = member.backlog();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let gauges = [
            (
                "etcd_server_has_leader",
                "Whether a leader is known",
                i64::from(status.leader != 0),
            ),
            (
                "etcd_server_is_leader",
                "Whether this member leads",
                i64::from(status.leader == member.id().0),
            ),
            (
                "etcd_server_is_learner",
                "Whether this member does not vote",
                i64::from(status.is_learner),
            ),
            (
                "etcd_server_proposals_pending",
                "Proposals of this member's clients in flight",
                number(member.pending()),
            ),
            (
                "etcd_server_quota_backend_bytes",
                "Limit of the store's size",
                number(status.quota_bytes),
            ),
            (
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes of the state on disk and in memory",
                number(size.allocated),
            ),
            (
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of live rows",
                number(size.in_use),
            ),
            (
                "etcd_debugging_mvcc_current_revision",
                "Newest revision",
                member.engine().store().revision().get(),
            ),
            (
                "etcd_debugging_mvcc_compact_revision",
                "Oldest revision that can be read",
                member.engine().store().compacted().get(),
            ),
            (
                "etcd_debugging_mvcc_watcher_total",
                "Watchers of this member's clients",
                i64::try_from(member.engine().watches().count()).unwrap_or(i64::MAX),
            ),
            (
                "corten_store_log_waits_seconds",
                "How long the disk has not returned from the write or sync of the log that is under way",
                number(member.log_waits().as_secs()),
            ),
            (
                "corten_store_tables_unmerged",
                "Table files that were not merged yet; from 20 on writes are slowed down, at 36 they wait",
                number(backlog.unmerged),
            ),
            (
                "corten_store_tables_backlog_bytes",
                "Bytes of tables to be rewritten until all is in order, estimated",
                number(backlog.bytes),
            ),
            (
                "corten_store_tables_writes_held_to_bytes_per_second",
                "To what writes are slowed down because the tables are behind; 0 when they are not",
                number(backlog.writes_held_to),
            ),
            (
                "corten_store_tables_writes_stopped",
                "Whether writes wait for the tables",
                i64::from(backlog.writes_stopped),
            ),
            (
                "corten_store_cluster_level",
                "Level of log entries and rows that all members have agreed on",
                i64::from(member.engine().store().level()),
            ),
            (
                "corten_store_raft_term",
                "Present term",
                number(status.term),
            ),
            (
                "corten_store_raft_purged_index",
                "Index of the newest entry that the log no longer holds",
                number(status.purged_index),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let counters = [
            (
                "etcd_server_proposals_committed",
                "Index of the last committed entry",
                status.committed_index,
            ),
            (
                "etcd_server_proposals_applied",
                "Index of the last applied entry",
                status.applied_index,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        prefixes(&member, &mut encoder)
    }
}

/// One line for each prefix that an operator has set a quota for.
fn prefixes(member: &Member, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let report = member
        .engine()
        .usage()
        .map(Usage::report)
        .unwrap_or_default();
    if report.is_empty() {
        return Ok(());
    }
    type Figure = fn(&PrefixUsage) -> u64;
    let gauges: [(&str, &str, Figure); 2] = [
        (
            "corten_store_prefix_quota_bytes",
            "Limit for the keys below a prefix",
            |one| one.limit,
        ),
        (
            "corten_store_prefix_used_bytes",
            "Bytes of the keys and values below a prefix",
            |one| one.used,
        ),
    ];
    for (name, help, figure) in gauges {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for one in &report {
            let gauge = ConstGauge::new(i64::try_from(figure(one)).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&[("prefix", one.prefix.as_str())])?)?;
        }
    }
    let (name, help) = (
        "corten_store_prefix_refused",
        "Requests refused for a prefix's quota",
    );
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for one in &report {
        let counter = ConstCounter::new(one.refused);
        counter.encode(family.encode_family(&[("prefix", one.prefix.as_str())])?)?;
    }
    Ok(())
}
