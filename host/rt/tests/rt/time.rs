//! Timers: their order, their end, and their limits.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use conet_rt::{spawn, time};

use crate::drivers::*;

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    under_every_driver(|| async {
        let mut ms = 1;
        // When this thread was kept from setting all timers in time, the order says nothing: longer ones, then.
        while !sleepers_wake_in_order(ms).await {
            ms *= 2;
        }
    });
}

/// False if the first deadline was over before all slept.
async fn sleepers_wake_in_order(ms: u32) -> bool {
    let woken = Rc::new(RefCell::new(Vec::new()));
    let start = Instant::now();
    let sleepers: Vec<_> = [7, 3, 1, 5, 2, 4, 6]
        .into_iter()
        .map(|number| {
            let woken = woken.clone();
            spawn(async move {
                let deadline = start + number * Duration::from_millis(ms.into());
                time::sleep_until(deadline).await;
                assert!(Instant::now() >= deadline, "too early");
                woken.borrow_mut().push(number);
            })
        })
        .collect();
    time::yield_now().await;
    let in_time = start.elapsed() < Duration::from_millis(ms.into());
    for sleeper in sleepers {
        sleeper.await.unwrap();
    }
    assert!(!in_time || *woken.borrow() == [1, 2, 3, 4, 5, 6, 7], "{woken:?}");
    in_time
}

#[test]
fn the_longest_duration_is_for_ever() {
    under_every_driver(|| async {
        let mut long = time::sleep(Duration::MAX);
        assert!(poll_once(&mut long).await.is_pending());
        assert_eq!(time::timeout(Duration::MAX, async { 7 }).await, Ok(7));
        time::sleep(Duration::from_millis(1)).await;
        assert!(poll_once(&mut long).await.is_pending());
    });
}

#[test]
fn what_is_ready_beats_a_deadline_gone_by() {
    under_every_driver(|| async {
        let past = Instant::now() - Duration::from_secs(1);
        assert_eq!(time::timeout_at(Some(past), async { 1 }).await, Ok(1));
        assert_eq!(time::timeout_at(Some(past), std::future::pending::<()>()).await, Err(time::Elapsed));
        assert_eq!(time::timeout_at(None, async { 2 }).await, Ok(2));
    });
}

#[test]
fn a_sleep_wakes_the_task_that_polled_it_last() {
    under_every_driver(|| async {
        let mut sleep = time::sleep(Duration::from_millis(100));
        assert!(poll_unheard(&mut sleep).is_pending());
        spawn(sleep).await.unwrap();
    });
}

#[test]
fn others_run_while_one_yields() {
    under_every_driver(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [1, 2]
            .into_iter()
            .map(|name| {
                let order = order.clone();
                spawn(async move {
                    for _ in 0..3 {
                        order.borrow_mut().push(name);
                        time::yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), [1, 2, 1, 2, 1, 2]);
    });
}

#[test]
fn dropped_timers_leave_nothing() {
    let count = if cfg!(miri) { 10 } else { 10_000 };
    under_every_driver(|| async {
        let wakes = Arc::new(Wakes);
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let mut sleeps: Vec<_> =
            (0..count).map(|n| time::sleep(Duration::from_secs(n % 97 + 1000))).collect();
        for sleep in &mut sleeps {
            assert_eq!(Pin::new(sleep).poll(&mut cx), Poll::Pending);
        }
        assert_eq!(Arc::strong_count(&wakes), 2 + count as usize);
        drop(sleeps);
        assert_eq!(Arc::strong_count(&wakes), 2, "a timer still has its waker");
    });
}

/// Its wakers are counted.
struct Wakes;

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        panic!("woken by a timer that was dropped");
    }
}
