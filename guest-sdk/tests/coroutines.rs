//! Coroutines of the native build. Runs under Miri too, which checks that sharing without `Send` is sound.
#![cfg(not(target_family = "wasm"))]

use std::cell::{Cell, RefCell};
use std::env;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use conet::ErrorCode;

#[test]
fn a_hundred_coroutines_share_an_rc() {
    let count = conet::run(|| {
        let count = Rc::new(Cell::new(0));
        for _ in 0..100 {
            let count = Rc::clone(&count);
            conet::go(move || {
                for _ in 0..10 {
                    let before = count.get();
                    count.set(before + 1);
                    conet::yield_now();
                }
            })
            .unwrap();
        }
        while Rc::strong_count(&count) > 1 {
            conet::yield_now();
        }
        count.get()
    });
    assert_eq!(count, 1000);
}

/// The result shares its count with a coroutine that is left where it was.
#[test]
fn main_may_return_what_others_still_hold() {
    let shared = conet::run(|| {
        let shared = Rc::new(Cell::new(0));
        let other = Rc::clone(&shared);
        conet::go(move || {
            loop {
                other.set(other.get() + 1);
                conet::yield_now();
            }
        })
        .unwrap();
        conet::yield_now();
        shared
    });
    assert_eq!((shared.get(), Rc::strong_count(&shared)), (1, 2));
}

/// The destructor of a thread-local runs after the coroutine's code, on its thread, and may release shared data.
#[test]
fn thread_locals_that_hold_shared_data_are_released_in_turn() {
    thread_local! {
        static KEPT: RefCell<Option<Rc<Cell<u32>>>> = const { RefCell::new(None) };
    }
    let holders = conet::run(|| {
        let shared = Rc::new(Cell::new(0));
        for _ in 0..20 {
            let shared = Rc::clone(&shared);
            conet::go(move || KEPT.set(Some(shared))).unwrap();
        }
        while Rc::strong_count(&shared) > 1 {
            shared.set(shared.get() + 1);
            conet::yield_now();
        }
        Rc::strong_count(&shared)
    });
    assert_eq!(holders, 1);
}

#[test]
fn a_coroutine_begins_when_its_parent_waits_and_in_order() {
    let order = conet::run(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        for name in ["first", "second", "third"] {
            let order = Rc::clone(&order);
            conet::go(move || order.borrow_mut().push(name)).unwrap();
        }
        order.borrow_mut().push("parent");
        conet::yield_now();
        order.take()
    });
    assert_eq!(order, ["parent", "first", "second", "third"]);
}

/// Not once for each sleep: as often as it wants.
#[test]
fn the_turn_stays_during_a_sleep_only_with_those_who_run() {
    conet::run(|| {
        let turns = Rc::new(Cell::new(0));
        let (counter, over) = (Rc::clone(&turns), Rc::new(Cell::new(false)));
        let stop = Rc::clone(&over);
        conet::go(move || {
            while !stop.get() {
                counter.set(counter.get() + 1);
                conet::yield_now();
            }
        })
        .unwrap();
        // A loaded machine may give the sibling's thread no time in a short sleep.
        let slept_long_enough = (0..16).any(|doubled| {
            let before = turns.get();
            conet::sleep(Duration::from_millis(1 << doubled));
            turns.get() > before + 1
        });
        over.set(true);
        assert!(slept_long_enough, "the sibling had the turn {} times", turns.get());
    });
}

#[test]
fn go_needs_a_program_and_drops_the_closure_without_one() {
    let held = Rc::new(());
    let in_closure = Rc::clone(&held);
    let error = conet::go(move || in_closure).unwrap_err();
    assert_eq!(ErrorCode::of(&error), Some(ErrorCode::Unsupported));
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_panic_in_a_coroutine_ends_the_program() {
    let panic = catch_unwind(|| {
        conet::run(|| {
            conet::go(|| panic!("a bug in a coroutine")).unwrap();
            loop {
                conet::yield_now();
            }
        })
    });
    let message = panic.unwrap_err();
    assert_eq!(message.downcast_ref(), Some(&"a bug in a coroutine"));
}

#[test]
fn a_panic_in_main_is_the_callers() {
    assert!(catch_unwind(|| conet::run(|| panic!("a bug in main"))).is_err());
}

/// Takes its time to let go of what it shares.
struct Lingering(Rc<Cell<bool>>);

impl Drop for Lingering {
    fn drop(&mut self) {
        for _ in 0..100 {
            thread::yield_now();
        }
        self.0.set(true);
    }
}

/// As that of one which ends, the thread of a coroutine that panics has released all before anyone goes on.
#[test]
fn thread_locals_are_released_before_a_panic_is_the_callers() {
    thread_local! {
        static KEPT: RefCell<Option<Lingering>> = const { RefCell::new(None) };
    }
    let released = Rc::new(Cell::new(false));
    let shared = Rc::clone(&released);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        conet::run(move || {
            conet::go(move || {
                KEPT.set(Some(Lingering(shared)));
                panic!("a bug in a coroutine");
            })
            .unwrap();
            loop {
                conet::yield_now();
            }
        })
    }));
    assert!(panic.is_err() && released.get());
    assert_eq!(Rc::strong_count(&released), 1);
}

/// Lets others run as it is dropped.
struct Patient(Rc<Cell<bool>>);

impl Drop for Patient {
    fn drop(&mut self) {
        conet::yield_now();
        self.0.set(true);
    }
}

/// In a process of its own, with memory for a few stacks.
#[test]
#[cfg_attr(miri, ignore = "Miri starts no process")]
fn a_closure_that_gets_no_thread_may_wait_as_it_is_dropped() {
    const CRAMPED: &str = "CONET_TEST_CRAMPED";
    if env::var_os(CRAMPED).is_none() {
        let child = Command::new("sh")
            .args(["-c", r#"ulimit -v 2000000 && exec timeout 60 "$0" "$@""#])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "a_closure_that_gets_no_thread_may_wait_as_it_is_dropped"])
            .env("RUST_MIN_STACK", (256 << 20).to_string())
            .env(CRAMPED, "")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && printed.contains("1 passed"), "{}: {printed}", child.status);
        return;
    }
    let (error, dropped) = conet::run(|| {
        loop {
            let dropped = Rc::new(Cell::new(false));
            let held = Patient(Rc::clone(&dropped));
            let started = conet::go(move || {
                let _held = held;
                loop {
                    conet::yield_now();
                }
            });
            if let Err(error) = started {
                return (error, dropped.get());
            }
        }
    });
    assert_eq!(ErrorCode::of(&error), Some(ErrorCode::OutOfResources));
    assert!(dropped);
}

#[test]
fn a_program_in_a_coroutine_is_refused() {
    let inner = conet::run(|| catch_unwind(|| conet::run(|| ())).is_err());
    assert!(inner);
}

#[test]
fn programs_run_side_by_side() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                conet::run(|| {
                    let sum = Rc::new(Cell::new(0));
                    for number in 1..=10 {
                        let sum = Rc::clone(&sum);
                        conet::go(move || sum.set(sum.get() + number)).unwrap();
                    }
                    conet::yield_now();
                    sum.get()
                })
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 55);
    }
}

#[test]
fn ids_differ() {
    let ids = conet::run(|| {
        let ids = Rc::new(RefCell::new(vec![conet::id()]));
        let told: Vec<_> = (0..3)
            .map(|_| {
                let ids = Rc::clone(&ids);
                conet::go(move || ids.borrow_mut().push(conet::id())).unwrap()
            })
            .collect();
        conet::yield_now();
        assert_eq!(ids.borrow()[1..], told);
        ids.take()
    });
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 4, "{ids:?}");
}

#[test]
fn a_spawned_coroutine_is_alone_and_gets_its_bytes() {
    static ALONE: AtomicBool = AtomicBool::new(false);
    let (told, heard) = mpsc::channel();
    // A function captures nothing, so the answer comes through a static.
    static TELL: std::sync::Mutex<Option<mpsc::Sender<Vec<u8>>>> = std::sync::Mutex::new(None);
    *TELL.lock().unwrap() = Some(told);
    conet::run(|| {
        conet::spawn_with(
            |connections, bytes| {
                let refused = conet::go(|| ()).map_err(|error| ErrorCode::of(&error));
                ALONE.store(refused == Err(Some(ErrorCode::Unsupported)) && connections.is_empty(), SeqCst);
                let tell = TELL.lock().unwrap().take();
                tell.expect("one is spawned").send(bytes).expect("the test waits");
            },
            vec![],
            b"what to do".to_vec(),
        )
        .map(drop)
    })
    .unwrap();
    assert_eq!(heard.recv().unwrap(), b"what to do");
    assert!(ALONE.load(SeqCst));
}

#[test]
fn an_error_of_main_is_its_result() {
    let result = conet::run(|| io::Result::<()>::Err(ErrorCode::TimedOut.into()));
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
}
