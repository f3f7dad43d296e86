//! What may go, as tables and against random histories.

use proptest::prelude::*;

use super::*;

pub(super) fn manifest(file: &str, at: i64, cluster: &str) -> Manifest {
    Manifest {
        format: 1,
        file: file.to_owned(),
        cluster_id: cluster.to_owned(),
        member_id: "1".to_owned(),
        taken_at: Timestamp::from_second(at).expect("in range"),
        revision: at,
        compacted_revision: 0,
        rows: 1,
        keys: 1,
        hash_kv: 0,
        hash_kv_compacted_revision: 0,
        content_bytes: 1,
        stored_bytes: 1,
        stored_sha256: String::new(),
        compression: "zstd".to_owned(),
        encryption: "nothing".to_owned(),
        etcd_version: "3.6.5".to_owned(),
        corten_version: "0.1.0".to_owned(),
        code: None,
    }
}

fn kept(file: &str, at: i64, good: bool) -> Kept {
    Kept {
        manifest: manifest(file, at, "a"),
        good,
    }
}

#[test]
fn the_newest_is_found_by_time_and_not_by_name() {
    // By name 9 comes after 10.
    let all = [
        kept("corten-r9.corten", 9, true),
        kept("corten-r10.corten", 10, true),
        kept("corten-r11.corten", 11, true),
    ];
    let gone = superfluous(&all, 2, &all[2].manifest);
    assert_eq!(gone, ["corten-r9.corten"]);
}

#[test]
fn bad_backups_and_those_of_other_clusters_do_not_count() {
    let mut all = vec![
        kept("old", 1, true),
        kept("cut short", 2, false),
        kept("cut short too", 3, false),
        kept("new", 4, true),
    ];
    all.push(Kept {
        manifest: manifest("other", 0, "b"),
        good: true,
    });
    assert!(superfluous(&all, 2, &all[3].manifest).is_empty());
    assert_eq!(superfluous(&all, 1, &all[3].manifest), ["old"]);
}

#[test]
fn a_clock_that_stepped_back_costs_no_backup_that_is_needed() {
    let all = [
        kept("from the future", 1000, true),
        kept("older", 900, true),
        kept("just made", 10, true),
    ];
    let gone = superfluous(&all, 1, &all[2].manifest);
    assert_eq!(
        gone,
        ["older"],
        "neither the newest by time nor the one just made"
    );
}

#[test]
fn only_what_was_left_long_ago_is_cleared() {
    let now = Timestamp::from_second(1_000_000).expect("in range");
    let item = |name: &str, hours: i64| Item {
        name: name.to_owned(),
        bytes: 1,
        modified: Some(now - SignedDuration::from_hours(hours)),
    };
    let items = [
        item("corten-1.corten", 48),
        item("corten-1.corten.json", 48),
        item("corten-2.corten", 48),
        item("corten-3.corten", 1),
        item(".corten-4.partial", 48),
        item(".corten-5.partial", 1),
        item("somebody-elses.corten", 48),
        item("notes.txt", 48),
    ];
    assert_eq!(
        left_over(&items, now),
        ["corten-2.corten", ".corten-4.partial"]
    );
}

proptest! {
    #[test]
    fn the_newest_good_one_always_stays(
        times in prop::collection::vec((0_i64..50, any::<bool>()), 1..20),
        keep in 0_usize..6,
        last in any::<prop::sample::Index>(),
    ) {
        let all: Vec<Kept> = times
            .iter()
            .enumerate()
            .map(|(i, (at, good))| kept(&format!("f{i}"), *at, *good))
            .collect();
        let newest = &all[last.index(all.len())].manifest;
        let gone = superfluous(&all, keep, newest);
        let stays = |kept: &&Kept| kept.good && !gone.contains(&kept.manifest.file);
        let newest_good = all.iter().filter(|kept| kept.good).map(|kept| kept.manifest.taken_at).max();
        if let Some(at) = newest_good {
            prop_assert!(all.iter().filter(stays).any(|kept| kept.manifest.taken_at == at));
        }
        prop_assert!(!gone.contains(&newest.file));
        let good = all.iter().filter(|kept| kept.good).count();
        prop_assert!(all.iter().filter(stays).count() >= good.min(keep));
        prop_assert!(all.iter().filter(stays).count() <= keep.max(1) + 1);
    }
}
