//! Timers: their order, their end, and their limits.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use conet_rt::{spawn, time};

use crate::drivers::*;

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    under_every_driver(|| async {
        let woken = Rc::new(RefCell::new(Vec::new()));
        let start = Instant::now();
        let sleepers: Vec<_> = [30, 10, 0, 20, 5, 15, 25]
            .into_iter()
            .map(|ms| {
                let woken = woken.clone();
                spawn(async move {
                    let deadline = start + Duration::from_millis(ms);
                    time::sleep_until(deadline).await;
                    assert!(Instant::now() >= deadline, "too early");
                    woken.borrow_mut().push(ms);
                })
            })
            .collect();
        for sleeper in sleepers {
            sleeper.await.unwrap();
        }
        assert_eq!(*woken.borrow(), [0, 5, 10, 15, 20, 25, 30]);
    });
}

#[test]
fn a_dropped_sleep_wakes_nobody() {
    under_every_driver(|| async {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut dropped = time::sleep(Duration::from_millis(1));
        assert!(Pin::new(&mut dropped).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(dropped);
        assert_eq!(Arc::strong_count(&wakes), 2, "the timer still has its waker");
        time::sleep(Duration::from_millis(5)).await;
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    });
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
        let mut sleep = time::sleep(Duration::from_millis(2));
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
fn ten_thousand_timeouts_leave_nothing() {
    under_every_driver(|| async {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let mut sleeps: Vec<_> = (1..=10_000).map(|n| time::sleep(Duration::from_secs(n % 97 + 1))).collect();
        for sleep in &mut sleeps {
            assert_eq!(Pin::new(sleep).poll(&mut cx), Poll::Pending);
        }
        assert_eq!(Arc::strong_count(&wakes), 10_002);
        drop(sleeps);
        assert_eq!(Arc::strong_count(&wakes), 2);
    });
}

/// Counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
