//! An alarm that interrupts whatever a thread computes.

use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use conet_rt::alarm;

/// Calls, and counts how often the alarm goes off meanwhile.
fn within<R>(rung: &AtomicU32, body: impl FnOnce() -> R) -> R {
    let ring = || {
        rung.fetch_add(1, SeqCst);
    };
    // SAFETY: an atomic operation.
    unsafe { alarm::within(&ring, body) }
}

fn wait_for(rung: &AtomicU32, times: u32) {
    while rung.load(SeqCst) < times {
        spin_loop();
    }
}

#[test]
fn it_interrupts_what_computes() {
    let rung = AtomicU32::new(0);
    within(&rung, || {
        for times in 1..=100 {
            alarm::set(SHORT);
            wait_for(&rung, times);
        }
    });
    assert_eq!(rung.load(SeqCst), 100, "once for each");
}

#[test]
fn set_anew_it_goes_off_once_and_cleared_it_does_not() {
    let (early, late) = (AtomicU32::new(0), AtomicU32::new(0));
    within(&early, || {
        alarm::set(LONG);
        alarm::set(SHORT);
        wait_for(&early, 1);
        alarm::set(LONG);
        alarm::clear();
        alarm::clear();
    });
    // Until it would have gone off.
    within(&late, || thread::sleep(2 * LONG));
    assert_eq!((early.load(SeqCst), late.load(SeqCst)), (1, 0));
}

#[test]
fn the_innermost_is_told_and_one_that_is_over_is_not() {
    let [outer, inner, last] = [0; 3].map(AtomicU32::new);
    within(&outer, || {
        within(&inner, || {
            alarm::set(SHORT);
            wait_for(&inner, 1);
        });
        let panicked = catch_unwind(AssertUnwindSafe(|| within(&inner, || panic!("as a guest's call may"))));
        assert!(panicked.is_err());
        alarm::set(SHORT);
        wait_for(&outer, 1);
    });
    // It goes off where nobody is told.
    alarm::set(SHORT);
    thread::sleep(2 * LONG);
    within(&last, || thread::sleep(SHORT));
    assert_eq!([&outer, &inner, &last].map(|rung| rung.load(SeqCst)), [1, 1, 0]);
}

#[test]
fn each_thread_has_its_own() {
    let ready = AtomicUsize::new(0);
    thread::scope(|scope| {
        for sets in [true, false, true, false] {
            let ready = &ready;
            scope.spawn(move || {
                let rung = AtomicU32::new(0);
                within(&rung, || {
                    ready.fetch_add(1, SeqCst);
                    while ready.load(SeqCst) < 4 {
                        spin_loop();
                    }
                    if sets {
                        alarm::set(SHORT);
                        wait_for(&rung, 1);
                    }
                    ready.fetch_add(1, SeqCst);
                    while ready.load(SeqCst) < 8 {
                        spin_loop();
                    }
                });
                assert_eq!(rung.load(SeqCst), u32::from(sets));
            });
        }
    });
}

const SHORT: Duration = Duration::from_micros(200);
const LONG: Duration = Duration::from_millis(50);
