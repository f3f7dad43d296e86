//! Members that agree: over loopback, on real files, in one process where that suffices and as real processes where a
//! kill must be a kill.
//!
//! Not tests of the etcd API's fine points (those run on the memory replica). Invariant: every test owns its folders
//! and ports, waits for conditions with a deadline, and never sleeps for luck.

mod faulty_disk;
mod from_etcd;
mod harness;
mod history;
mod process;
mod wires;

mod backup;
mod bucket;
mod corruption;
mod crash;
mod cuts;
mod disk_faults;
mod disk_full;
mod etcdctl;
mod http;
mod leases;
mod level;
mod linear;
mod membership;
mod metrics;
mod pauses;
mod peer;
mod quota;
mod record;
mod recover;
mod repair;
mod replication;
mod restore;
mod single;
mod snapshot;
mod tls;
mod upstream;
mod users;
