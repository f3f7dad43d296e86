//! The queue's promises, under paused time.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

async fn next(queue: &WorkQueue<u32>) -> Option<Taken<u32>> {
    tokio::time::timeout(Duration::from_millis(1), queue.take())
        .await
        .ok()
        .flatten()
}

#[tokio::test(start_paused = true)]
async fn a_key_added_twice_comes_once_and_in_order() {
    let queue = WorkQueue::default();
    for key in [1, 2, 1, 3, 2] {
        queue.add(key);
    }
    let mut seen = Vec::new();
    while let Some(taken) = next(&queue).await {
        seen.push(*taken.key());
        taken.succeeded();
    }
    assert_eq!(seen, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_key_in_hand_is_not_handed_out_again() {
    let queue = WorkQueue::default();
    queue.add(1);
    let taken = next(&queue).await.expect("ready");
    queue.add(1);
    queue.add(1);
    assert!(next(&queue).await.is_none(), "it is in hand");
    taken.succeeded();
    let again = next(&queue).await.expect("it was added meanwhile");
    again.succeeded();
    assert!(next(&queue).await.is_none(), "but only once");
}

#[tokio::test(start_paused = true)]
async fn delays_end_in_time_and_the_shortest_counts() {
    let queue = WorkQueue::default();
    queue.add_after(1, SECOND * 5);
    queue.add_after(1, SECOND);
    queue.add_after(1, SECOND * 9);
    let begin = Instant::now();
    queue.take().await.expect("due").succeeded();
    assert_eq!(begin.elapsed(), SECOND);
    assert!(
        tokio::time::timeout(SECOND * 20, queue.take())
            .await
            .is_err(),
        "the others are void"
    );
}

#[tokio::test(start_paused = true)]
async fn an_add_ends_a_delay() {
    let queue = WorkQueue::default();
    queue.add_after(1, SECOND);
    queue.add(1);
    next(&queue).await.expect("at once").succeeded();
    assert!(
        tokio::time::timeout(SECOND * 2, queue.take())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_exponentially_and_are_forgotten() {
    let policy = RetryPolicy {
        min: Duration::from_millis(100),
        max: SECOND,
    };
    let queue = WorkQueue::new(policy);
    queue.add(1);
    for expected in [100, 200, 400, 800, 1_000, 1_000] {
        let taken = queue.take().await.expect("open");
        assert_eq!(taken.failed(), Duration::from_millis(expected));
    }
    queue.take().await.expect("open").succeeded();
    assert_eq!(queue.failures(&1), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_added_again_is_not_delayed() {
    let queue = WorkQueue::default();
    queue.add(1);
    let taken = queue.take().await.expect("open");
    queue.add(1);
    taken.failed();
    next(&queue).await.expect("news beats back-off").succeeded();
}

#[tokio::test(start_paused = true)]
async fn all_waiters_hear_the_end() {
    let queue: WorkQueue<u32> = WorkQueue::default();
    let waiting = (0..4).map(|_| queue.take()).collect::<Vec<_>>();
    let waiting = futures::future::join_all(waiting);
    let close = async {
        tokio::task::yield_now().await;
        queue.close();
    };
    let (ended, ()) = tokio::join!(waiting, close);
    assert!(ended.iter().all(Option::is_none));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_key_is_free_again() {
    let queue = WorkQueue::default();
    queue.add(1);
    drop(queue.take().await);
    assert_eq!(queue.in_hand(), 0);
    queue.add(1);
    next(&queue).await.expect("free").succeeded();
}
