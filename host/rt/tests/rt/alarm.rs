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
fn it_interrupts_what_computes_again_and_again() {
    let rung = AtomicU32::new(0);
    within(&rung, || {
        alarm::set(SHORT);
        wait_for(&rung, 100);
        alarm::clear();
    });
}

#[test]
fn set_anew_it_is_another_one_and_cleared_it_does_not_go_off() {
    let rung = AtomicU32::new(0);
    within(&rung, || {
        alarm::set(LONG);
        alarm::set(SHORT);
        wait_for(&rung, 1);
        alarm::set(LONG);
        alarm::clear();
        alarm::clear();
        let until_now = rung.load(SeqCst);
        // Nothing tells that it does not: it is waited for until it would have gone off.
        thread::sleep(2 * LONG);
        assert_eq!(rung.load(SeqCst), until_now);
    });
}

#[test]
fn the_innermost_is_told_and_one_that_is_over_is_not() {
    let [outer, inner] = [0; 2].map(AtomicU32::new);
    within(&outer, || {
        within(&inner, || {
            alarm::set(SHORT);
            wait_for(&inner, 1);
            alarm::clear();
        });
        let panicked = catch_unwind(AssertUnwindSafe(|| within(&inner, || panic!("as a guest's call may"))));
        assert!(panicked.is_err());
        assert_eq!(outer.load(SeqCst), 0);
        let until_now = inner.load(SeqCst);
        alarm::set(SHORT);
        wait_for(&outer, 1);
        assert_eq!(inner.load(SeqCst), until_now);
    });
    // It goes off where nobody is told, and so nobody can be asked whether it has: it has long had the time.
    thread::sleep(LONG);
    alarm::clear();
    let until_now = outer.load(SeqCst);
    within(&inner, || thread::sleep(LONG));
    assert_eq!(outer.load(SeqCst), until_now);
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
                        alarm::clear();
                    }
                    ready.fetch_add(1, SeqCst);
                    while ready.load(SeqCst) < 8 {
                        spin_loop();
                    }
                });
                assert_eq!(rung.load(SeqCst) > 0, sets);
            });
        }
    });
}

const SHORT: Duration = Duration::from_micros(200);
const LONG: Duration = Duration::from_millis(50);
