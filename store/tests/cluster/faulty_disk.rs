//! A disk that can be made slow, wrong or silent while it is in use: a file system in user space over a folder beneath.
//!
//! Not a file system to rely on: only what the store and RocksDB ask of one, and nothing is kept between two operations but
//! what a loss of power would take. Needs root and `/dev/fuse`. Invariant: what is not made worse goes to the folder
//! beneath unchanged, synced where a sync was asked for; and no page is cached above, so that every read comes by here.

mod files;
mod power;
mod switches;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{BackgroundSession, Config, MountOption, Session};
use rustix::mount::{UnmountFlags, unmount};

use files::Files;
use power::Power;
use switches::Switches;
pub(crate) use switches::{Operation, Trouble};

/// As many operations can hang while others go on.
const THREADS: usize = 16;

/// A file system, until it is dropped.
pub(crate) struct FaultyDisk {
    at: PathBuf,
    switches: Arc<Switches>,
    power: Arc<Power>,
    _session: BackgroundSession,
    _beneath: tempfile::TempDir,
}

impl FaultyDisk {
    /// An empty one, without faults so far.
    pub(crate) fn mount(at: &Path) -> FaultyDisk {
        std::fs::create_dir_all(at).expect("created");
        let beneath = tempfile::tempdir().expect("temp dir");
        let switches = Arc::new(Switches::default());
        let power = Arc::new(Power::default());
        let files = Files::new(beneath.path(), Arc::clone(&switches), Arc::clone(&power));
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        config.mount_options = vec![MountOption::FSName("corten-faulty-disk".to_owned())];
        let session = Session::new(files, at, &config).and_then(Session::spawn);
        let session = session.expect("a disk with faults needs root and /dev/fuse");
        FaultyDisk {
            at: at.to_owned(),
            switches,
            power,
            _session: session,
            _beneath: beneath,
        }
    }

    /// Makes an operation worse, on all files, until `heal`.
    pub(crate) fn make(&self, operation: Operation, trouble: Trouble) {
        self.make_within("", operation, trouble);
    }

    /// The same for files whose path has `part` in it.
    pub(crate) fn make_within(&self, part: &'static str, operation: Operation, trouble: Trouble) {
        self.switches.set(part, operation, trouble);
    }

    /// Nothing that touches the disk returns, until `heal`.
    pub(crate) fn hang(&self) {
        for operation in Operation::ALL {
            self.make(operation, Trouble::Hangs);
        }
    }

    /// All is well from now on; what hung goes on.
    pub(crate) fn heal(&self) {
        self.switches.clear();
    }

    /// How often an operation was asked for.
    pub(crate) fn asked(&self, operation: Operation) -> u64 {
        self.switches.asked(operation)
    }

    /// How often an operation has failed for a trouble set here.
    pub(crate) fn failed(&self, operation: Operation) -> u64 {
        self.switches.failed(operation)
    }

    /// The host loses power while no process has files open here: log files go back to what was durable of them. A sync
    /// that failed made nothing durable, and what it should have written counts as clean from then on, as in Linux: only
    /// writing it anew helps. (Table files are left alone.)
    pub(crate) fn lose_power(&self) {
        self.power.lose();
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        // A process that hangs here could not be killed.
        self.heal();
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

#[test]
fn a_disk_does_what_it_is_told() {
    use std::os::unix::fs::FileExt as _;
    use std::time::{Duration, Instant};

    let parent = tempfile::tempdir().expect("temp dir");
    let disk = FaultyDisk::mount(&parent.path().join("disk"));
    let dir = disk.at.clone();
    std::fs::create_dir_all(dir.join("a/b")).expect("folders");
    let path = dir.join("a/b/one.wal");
    std::fs::write(&path, vec![1; 20_000]).expect("written");
    std::fs::hard_link(&path, dir.join("two.wal")).expect("linked");
    std::fs::rename(dir.join("a"), dir.join("c")).expect("renamed");
    let path = dir.join("c/b/one.wal");
    let file = std::fs::File::options().read(true).write(true).open(&path);
    let file = file.expect("opened");
    file.sync_all().expect("synced");
    let none = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&file, none, 0, 40_000).expect("reserved");
    assert_eq!(file.metadata().expect("metadata").len(), 40_000);

    disk.make_within("one", Operation::Sync, Trouble::Fails);
    file.write_all_at(&[2; 10_000], 0).expect("written");
    let error = file.sync_data().expect_err("fails");
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    disk.heal();
    file.write_all_at(&[3; 4096], 4096).expect("written");
    file.sync_data().expect("synced");
    assert_eq!(std::fs::read(&path).expect("read")[9_000], 2);
    drop(file);
    disk.lose_power();
    let found = std::fs::read(dir.join("two.wal")).expect("read");
    assert_eq!((found[0], found[5_000], found[9_000]), (1, 3, 1));
    assert_eq!(
        (disk.asked(Operation::Sync), disk.failed(Operation::Sync)),
        (3, 1)
    );

    disk.make(Operation::Read, Trouble::Fails);
    std::fs::read(&path).expect_err("fails");
    disk.heal();
    disk.make(Operation::Write, Trouble::Slow(Duration::from_millis(50)));
    let began = Instant::now();
    std::fs::write(dir.join("three"), b"x").expect("written");
    assert!(began.elapsed() >= Duration::from_millis(50));
    disk.hang();
    let reader = std::thread::spawn(move || std::fs::read(path).map(|data| data.len()));
    std::thread::sleep(Duration::from_millis(100));
    assert!(!reader.is_finished(), "it hangs");
    disk.heal();
    assert_eq!(reader.join().expect("joined").expect("read"), 40_000);
    std::fs::remove_dir_all(dir.join("c")).expect("removed");
    let names = std::fs::read_dir(&dir).expect("list").count();
    assert_eq!(names, 2);
}
