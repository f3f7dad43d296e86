//! How long a promised node is kept for a pod.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::preempt::still_waits;
use super::*;

#[test]
fn a_nomination_was_never_given_up() {
    let mut cluster = Cluster::new();
    cluster.set_node("n1", node("n1", &[("cpu", "2")]));
    let (big, _) = pod(
        "big",
        &[("cpu", "2"), ("priority", "5"), ("nominated", "n1")],
    );
    cluster.nominate(&big, "n1");
    let waits = |cluster: &mut Cluster| {
        let mut rng = StdRng::seed_from_u64(7);
        let no_fit = place(cluster, &big, &Options::default(), &mut rng).expect_err("no room");
        let evicts = preempt(cluster, &big, &no_fit, &[], 0).is_ok();
        (evicts, still_waits(cluster, &big, &no_fit))
    };
    // Its victim is going: it waits.
    let (victim, _) = pod("victim", &[("cpu", "1"), ("terminating", "")]);
    cluster.add_pod(&victim, "n1");
    assert_eq!(waits(&mut cluster), (false, true));
    // Somebody more important took the room: nothing is left to wait for.
    cluster.remove_pod("victim");
    let (top, _) = pod("top", &[("cpu", "1"), ("priority", "9")]);
    cluster.add_pod(&top, "n1");
    assert_eq!(waits(&mut cluster), (false, false));
    // The node is gone.
    cluster.remove_pod("top");
    cluster.remove_node("n1");
    assert_eq!(waits(&mut cluster), (false, false));
}
