//! A disk that is full: by the store's own puts, and by somebody else's files. Needs root, for a file system of its own.
//!
//! Invariant: what was acknowledged is there afterwards, and freeing space is all that an operator does.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use corten_proto::etcd::etcdserverpb as etcd;
use etcd::maintenance_client::MaintenanceClient;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::harness::{try_put, wait_for};
use super::process::Processes;
use super::quota::noise;

const DISK: &str = "size=512m";
const RESERVE: &str = "--disk-reserve-bytes=201326592";

/// A small file system, until the test is over.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Disk {
        std::fs::create_dir_all(at).expect("created");
        let options = CString::new(DISK).expect("no zeros");
        mount(
            "tmpfs",
            at,
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .expect("mounting a file system needs root");
        Disk(at.to_owned())
    }

    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.0).expect("its size");
        disk.f_bavail * disk.f_frsize
    }

    /// Somebody else's file, which leaves `rest` bytes.
    fn ballast(&self, rest: u64) -> PathBuf {
        let path = self.0.join("ballast");
        let file = std::fs::File::create(&path).expect("created");
        let len = self.free().saturating_sub(rest);
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len).expect("filled");
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

async fn alarms(processes: &Processes) -> usize {
    let request = etcd::AlarmRequest {
        action: etcd::alarm_request::AlarmAction::Get as i32,
        ..Default::default()
    };
    wait_for("an answer about alarms", async || {
        let mut maintenance = MaintenanceClient::new(processes.channel(0));
        let answer = maintenance.alarm(request).await.ok()?;
        Some(answer.into_inner().alarms.len())
    })
    .await
}

async fn read(processes: &Processes, key: &str) -> Option<Vec<u8>> {
    let request = etcd::RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    };
    let answer = processes.kv(0).range(request).await.expect("reads go on");
    let kv = answer.into_inner().kvs.into_iter().next();
    kv.map(|kv| kv.value.to_vec())
}

/// Deletes what fills the store, and compacts it away.
async fn free(processes: &Processes) {
    let delete = etcd::DeleteRangeRequest {
        key: "fill/".into(),
        range_end: "fill0".into(),
        ..Default::default()
    };
    let deleted = processes.kv(0).delete_range(delete).await;
    let deleted = deleted.expect("deletes go on").into_inner();
    let compaction = etcd::CompactionRequest {
        revision: deleted.header.expect("header").revision,
        physical: true,
    };
    let compacted = processes.kv(0).compact(compaction).await;
    compacted.expect("compaction goes on");
}

async fn space_again(processes: &Processes) {
    wait_for("the alarm to go by itself", async || {
        (alarms(processes).await == 0).then_some(())
    })
    .await;
    wait_for("a put", async || {
        try_put(processes.kv(0), "again", b"v").await.ok()
    })
    .await;
}

/// Puts until the disk is near its end; reads go on.
async fn fill(processes: &Processes) {
    let mut filled = 0;
    let refused = loop {
        match try_put(
            processes.kv(0),
            &format!("fill/{filled:04}"),
            &noise(filled),
        )
        .await
        {
            Ok(_) => filled += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    assert!(filled > 50, "only {filled} fitted");
    assert_eq!(alarms(processes).await, 1);
    assert_eq!(
        read(processes, "kept").await.as_deref(),
        Some(&b"value"[..])
    );
    assert_eq!(read(processes, "fill/0001").await, Some(noise(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_puts_alone_and_freeing_space_is_all_it_takes() {
    let disks = std::cell::RefCell::new(Vec::new());
    let args = [
        RESERVE,
        "--snapshot-log-bytes=33554432",
        "--memtable-bytes=8388608",
    ];
    let mut processes = Processes::start_in(1, &args, |dir| {
        disks.borrow_mut().push(Disk::mount(dir));
    });
    let disk = disks.borrow_mut().pop().expect("mounted");
    processes.leader().await;
    try_put(processes.kv(0), "kept", b"value")
        .await
        .expect("put");

    fill(&processes).await;
    free(&processes).await;
    space_again(&processes).await;

    // By somebody else's files, below the reserve.
    let ballast = disk.ballast(100 << 20);
    wait_for("the alarm", async || {
        (alarms(&processes).await == 1).then_some(())
    })
    .await;
    try_put(processes.kv(0), "more", b"v")
        .await
        .expect_err("full");
    assert_eq!(
        read(&processes, "kept").await.as_deref(),
        Some(&b"value"[..])
    );
    free(&processes).await;
    std::fs::remove_file(&ballast).expect("removed");
    space_again(&processes).await;

    // To the last byte, over a restart.
    let ballast = disk.ballast(0);
    wait_for("the alarm", async || {
        (alarms(&processes).await == 1).then_some(())
    })
    .await;
    assert_eq!(
        read(&processes, "kept").await.as_deref(),
        Some(&b"value"[..])
    );
    free(&processes).await;
    processes.kill(0);
    std::fs::remove_file(&ballast).expect("removed");
    processes.spawn(0);
    processes.leader().await;
    space_again(&processes).await;
    assert_eq!(
        read(&processes, "kept").await.as_deref(),
        Some(&b"value"[..])
    );
    processes.kill(0);
}
