//! The loads, in the order in which they run: what grows the stores most comes last.

use std::time::Duration;

use super::client::Format;
use super::objects::{BIG, CREATED, POD_COUNT};
use super::requests::{Op, Shape, config_maps_path, pods_path};
use super::storm::Storm;
use super::watch::Fan;

/// Bytes of a large ConfigMap.
pub(crate) const BIG_BYTES: usize = 10 << 10;
const BIG_COUNT: usize = 10_000;
/// Clients of the loads that ask for as much as a server gives.
const MANY: usize = 64;
/// Watchers hear of so many changes a second.
const CHANGE_PAUSE: Duration = Duration::from_millis(10);

/// A row of the table, or two.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) needs: Needs,
}

pub(crate) enum Work {
    Requests(Shape),
    /// Creates of large ConfigMaps.
    Big(Shape),
    Watch(Fan),
    Storm(Storm),
}

/// What has to be there before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Pods,
    /// So many large ConfigMaps.
    Big(usize),
}

pub(crate) fn all(percent: usize) -> Vec<Scenario> {
    let mut all = single_objects(percent);
    all.extend(lists(percent));
    all.extend(watchers(percent));
    all.extend(storms(percent));
    all.extend(large(percent));
    all
}

fn scaled(total: usize, percent: usize) -> usize {
    total * percent / 100
}

fn load(name: &str, op: Op, clients: usize, total: usize, needs: Needs) -> Scenario {
    let plural = if clients == 1 { "" } else { "s" };
    Scenario {
        name: format!("{name}, {clients} client{plural}"),
        work: Work::Requests(Shape {
            op,
            clients,
            total: total.max(clients),
        }),
        needs,
    }
}

fn single_objects(percent: usize) -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, op, needs, alone, together) in [
        (
            "create ConfigMap 1 KiB",
            Op::CreateConfigMap(CREATED, 1024),
            Needs::Nothing,
            1_500,
            15_000,
        ),
        (
            "create Pod",
            Op::CreatePod(CREATED),
            Needs::Nothing,
            1_000,
            10_000,
        ),
        (
            "get Pod",
            Op::GetPod { cached: false },
            Needs::Pods,
            4_000,
            40_000,
        ),
        (
            "get Pod, resourceVersion=0",
            Op::GetPod { cached: true },
            Needs::Pods,
            4_000,
            40_000,
        ),
        (
            "merge patch of a Pod's label",
            Op::PatchPod,
            Needs::Pods,
            1_000,
            10_000,
        ),
    ] {
        let total = scaled(alone, percent);
        all.push(load(name, op.clone(), 1, total, needs));
        all.push(load(name, op, MANY, scaled(together, percent), needs));
    }
    let renewals = scaled(40_000, percent);
    let op = Op::RenewLease;
    all.push(load("renew Lease", op, 1_000, renewals, Needs::Nothing));
    all
}

fn lists(percent: usize) -> Vec<Scenario> {
    let path = pods_path();
    let cached = format!("{path}?resourceVersion=0");
    let mut all = Vec::new();
    for (name, path, format, total) in [
        ("JSON, resourceVersion=0", &cached, Format::Json, 60),
        ("JSON, consistent", &path, Format::Json, 60),
        (
            "JSON, gzip, resourceVersion=0",
            &cached,
            Format::JsonGzip,
            40,
        ),
        (
            "protobuf, resourceVersion=0",
            &cached,
            Format::Protobuf,
            100,
        ),
        ("protobuf, consistent", &path, Format::Protobuf, 100),
        (
            "protobuf, gzip, resourceVersion=0",
            &cached,
            Format::ProtobufGzip,
            60,
        ),
    ] {
        let name = format!("list of {POD_COUNT} pods, {name}");
        let op = Op::List(path.clone(), format);
        all.push(load(&name, op, 4, scaled(total, percent), Needs::Pods));
    }
    let name = format!("list of {POD_COUNT} pods in pages of 500, JSON");
    let total = scaled(40, percent);
    all.push(load(&name, Op::ListPaged, 4, total, Needs::Pods));
    let name = "list of a node's 100 pods, resourceVersion=0";
    let total = scaled(4_000, percent);
    all.push(load(name, Op::ListOfNode, MANY, total, Needs::Pods));
    all
}

fn watchers(percent: usize) -> Vec<Scenario> {
    let fan = |watchers: usize, changes: usize| {
        let changes = scaled(changes, percent).max(10);
        Scenario {
            name: format!("event to each of {watchers} watchers, {changes} changes at 100/s"),
            work: Work::Watch(Fan {
                watchers,
                changes,
                pause: CHANGE_PAUSE,
            }),
            needs: Needs::Nothing,
        }
    };
    vec![fan(1_000, 1_000), fan(10_000, 300)]
}

fn storms(percent: usize) -> Vec<Scenario> {
    let path = pods_path();
    let lasts = Duration::from_millis(u64::try_from(300 * percent).unwrap_or(u64::MAX));
    let storm = |name: &str, path: String| Scenario {
        name: format!("storm of 50 parallel lists of {POD_COUNT} pods, JSON, {name}"),
        work: Work::Storm(Storm {
            readers: 50,
            path,
            lasts: lasts.max(Duration::from_secs(3)),
        }),
        needs: Needs::Pods,
    };
    vec![
        storm("resourceVersion=0", format!("{path}?resourceVersion=0")),
        storm("consistent", path),
    ]
}

fn large(percent: usize) -> Vec<Scenario> {
    let count = scaled(BIG_COUNT, percent).max(MANY);
    let create = Scenario {
        name: format!("create {count} ConfigMaps 10 KiB, {MANY} clients"),
        work: Work::Big(Shape {
            op: Op::CreateConfigMap(BIG, BIG_BYTES),
            clients: MANY,
            total: count,
        }),
        needs: Needs::Nothing,
    };
    let path = config_maps_path(BIG);
    let lists = [("JSON", Format::Json), ("protobuf", Format::Protobuf)].map(|(name, format)| {
        let name = format!("list of {count} ConfigMaps 10 KiB, {name}, resourceVersion=0");
        let op = Op::List(format!("{path}?resourceVersion=0"), format);
        load(&name, op, 4, scaled(24, percent), Needs::Big(count))
    });
    std::iter::once(create).chain(lists).collect()
}
