//! The quota one step at a time, against a model, and under threads.

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::atomic::AtomicUsize,
    task::{Context, Poll, Wake, Waker},
    thread,
};

use super::*;

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll(acquire: &mut Acquire) -> Option<Permit> {
    poll_with(acquire, Waker::noop())
}

fn poll_with(acquire: &mut Acquire, waker: &Waker) -> Option<Permit> {
    match Pin::new(acquire).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(permit) => Some(permit),
        Poll::Pending => None,
    }
}

#[test]
fn units_come_back_when_the_permit_drops() {
    let quota = Quota::new(2);
    let first = quota.try_acquire(2).expect("two are free");
    assert!(quota.try_acquire(1).is_none());
    drop(first);
    assert_eq!((quota.used(), quota.peak()), (0, 2));
}

#[test]
fn a_permit_grows_within_the_limit_and_shrinks() {
    let quota = Quota::new(10);
    let mut permit = quota.try_acquire(4).expect("four are free");
    assert!(permit.grow(6));
    assert!(!permit.grow(1));
    permit.shrink(3);
    assert_eq!((permit.units(), quota.used()), (7, 7));
}

#[test]
fn units_cannot_overflow() {
    let quota = Quota::new(u64::MAX);
    let _held = quota.try_acquire(u64::MAX).expect("all are free");
    assert!(quota.try_acquire(u64::MAX).is_none());
}

#[test]
fn a_waiter_gets_the_unit_that_comes_back() {
    let quota = Quota::new(1);
    let held = quota.try_acquire(1).expect("one is free");
    let mut waiting = quota.acquire();
    assert!(poll(&mut waiting).is_none() && quota.is_wanted());
    drop(held);
    assert!(poll(&mut waiting).is_some() && !quota.is_wanted());
}

#[test]
fn who_waits_for_much_is_not_overtaken_by_who_waits_for_little() {
    let quota = Quota::new(10);
    let mut held = quota.try_acquire(10).expect("all are free");
    let (mut much, mut little) = (quota.acquire_many(6), quota.acquire());
    assert!(poll(&mut much).is_none() && poll(&mut little).is_none());
    held.shrink(5);
    assert!(poll(&mut little).is_none(), "it is second");
    held.shrink(1);
    let much = poll(&mut much).expect("six are free");
    assert_eq!((much.units(), quota.used()), (6, 10));
    drop(held);
    assert!(poll(&mut little).is_some());
}

#[test]
fn who_leaves_the_line_gives_all_back_that_it_was_given() {
    let host = Quota::new(20);
    let quota = Quota::within(&host, 10);
    let held = quota.try_acquire(10).expect("all are free");
    let mut waiting = quota.acquire_many(7);
    assert!(poll(&mut waiting).is_none());
    drop(held);
    assert_eq!(quota.used(), 7);
    drop(waiting);
    assert_eq!((quota.used(), host.used()), (0, 0));
    // Taken of the tenant's, waiting for the host's.
    let others = host.try_acquire(15).expect("they are free");
    let mut waiting = quota.acquire_many(7);
    assert!(poll(&mut waiting).is_none());
    drop(others);
    drop(poll(&mut waiting).expect("there is room"));
    assert_eq!((quota.used(), host.used()), (0, 0));
}

#[test]
fn a_lenient_quota_gives_what_it_has_not_as_far_as_there_is_any() {
    let host = Quota::new(5);
    let quota = Quota::of(2, Bounds { lenient: true, within: Some(host.clone()), ..Bounds::default() });
    let held = quota.try_acquire(2).expect("they are free");
    assert_eq!(quota.beyond(), None);
    let more = poll(&mut quota.acquire()).expect("beyond its own");
    assert_eq!((quota.beyond(), quota.max()), (Some(3), 2));
    assert!(quota.try_acquire(3).is_none(), "the host has no more");
    drop((held, more));
    assert_eq!((quota.used(), host.used(), quota.beyond()), (0, 0, None));
}

/// As two versions of a tenant, on two hosts' grounds.
fn versions(common: &Arc<Quota>, max: u64) -> [Arc<Quota>; 2] {
    [(), ()].map(|()| {
        let within = Some(Quota::new(10));
        Quota::of(max, Bounds { common: Some(common.clone()), within, lenient: false })
    })
}

#[test]
fn what_two_have_in_common_they_take_together_and_give_back() {
    let common = Quota::new(3);
    let [old, new] = versions(&common, 3);
    let held = old.try_acquire(2).expect("they are free");
    assert!(new.try_acquire(2).is_none());
    assert_eq!((new.used(), common.used()), (0, 2), "a refused one has taken nothing");
    let one = poll(&mut new.acquire()).expect("one is free");
    let mut waiting = new.acquire();
    assert!(poll(&mut waiting).is_none() && new.is_wanted() && old.is_wanted());
    drop(held);
    let other = poll(&mut waiting).expect("the other's have come back");
    assert_eq!((old.used(), new.used(), common.used()), (0, 2, 2));
    drop((one, other));
    assert_eq!((new.used(), common.used()), (0, 0));
}

#[test]
fn what_is_common_becomes_more_and_less() {
    let common = Quota::new(1);
    let [old, new] = versions(&common, 9);
    let held = old.try_acquire(1).expect("one is free");
    let mut waiting = new.acquire();
    assert!(poll(&mut waiting).is_none());
    common.set_max(2);
    let more = poll(&mut waiting).expect("there is one more");
    common.set_max(1);
    drop(held);
    assert!(
        new.try_acquire(1).is_none() && old.try_acquire(1).is_none(),
        "one is in use, and it is the only one"
    );
    drop(more);
    assert!(old.try_acquire(1).is_some());
}

#[test]
fn what_is_taken_anyway_is_counted() {
    let common = Quota::new(2);
    let [old, new] = versions(&common, 2);
    let held = old.try_acquire(2).expect("they are free");
    let anyway = new.try_acquire_anyway(1).expect("the other one is not asked");
    assert_eq!(common.used(), 3);
    assert!(new.try_acquire_anyway(2).is_none(), "its own limit holds");
    drop(held);
    assert!(old.try_acquire(2).is_none() && old.try_acquire(1).is_some());
    drop(anyway);
    assert_eq!((common.used(), new.used()), (0, 0));
}

/// At each of the places where it may wait.
#[test]
fn who_leaves_gives_back_what_it_had_of_each() {
    let (common, host) = (Quota::new(2), Quota::new(2));
    let quota =
        Quota::of(2, Bounds { common: Some(common.clone()), within: Some(host.clone()), lenient: false });
    for full in [&quota, &common, &host] {
        let held = full.try_acquire(2).expect("they are free");
        let mut waiting = quota.acquire();
        assert!(poll(&mut waiting).is_none());
        drop(waiting);
        drop(held);
        assert_eq!((quota.used(), common.used(), host.used()), (0, 0, 0));
    }
}

/// wasmtime polls what waits in a shared instance at each of its turns.
#[test]
fn a_waiter_polled_often_is_noted_once_and_leaves_nothing() {
    let quota = Quota::new(1);
    let held = quota.try_acquire(1).expect("one is free");
    let mut waiting = quota.acquire();
    let mut drained = pin!(quota.drained());
    for _ in 0..100 {
        assert!(poll(&mut waiting).is_none());
        assert!(drained.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(quota.waiting.len(), 2);
    drop(waiting);
    // Attempts given up at once, as a connect with a timeout of nothing is.
    for _ in 0..100 {
        assert!(poll(&mut quota.acquire()).is_none());
    }
    assert_eq!(quota.waiting.len(), 1);
    drop(held);
    assert!(drained.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn the_latest_waker_is_woken_and_one_waiter_for_one_unit() {
    let quota = Quota::new(1);
    let held = quota.try_acquire(1).expect("one is free");
    let [old, first, second] = [(); 3].map(|()| Arc::new(Woken::default()));
    let mut waiting = [quota.acquire(), quota.acquire()];
    assert!(poll_with(&mut waiting[0], &old.clone().into()).is_none());
    assert!(poll_with(&mut waiting[1], &second.clone().into()).is_none());
    assert!(poll_with(&mut waiting[0], &first.clone().into()).is_none());
    drop(held);
    assert_eq!((old.times(), first.times(), second.times()), (0, 1, 0));
    // Nobody slips in before the one it was given to.
    assert!(poll(&mut quota.acquire()).is_none() && quota.try_acquire(1).is_none());
    drop(poll(&mut waiting[0]).expect("given"));
    assert_eq!(second.times(), 1);
}

#[test]
fn a_woken_waiter_that_leaves_passes_its_unit_on() {
    let quota = Quota::new(1);
    let held = quota.try_acquire(1).expect("one is free");
    let woken = Arc::new(Woken::default());
    let (mut first, mut second) = (quota.acquire(), quota.acquire());
    assert!(poll(&mut first).is_none());
    assert!(poll_with(&mut second, &woken.clone().into()).is_none());
    drop(held);
    assert_eq!(woken.times(), 0);
    drop(first);
    assert_eq!(woken.times(), 1);
    assert!(poll(&mut second).is_some());
    assert_eq!((quota.used(), quota.waiting.len()), (0, 0));
}

#[test]
fn the_end_is_told_to_all_who_wait_for_it() {
    let quota = Quota::new(2);
    let permits = [quota.try_acquire(1), quota.try_acquire(1)];
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut waiting = [pin!(quota.drained()), pin!(quota.drained())];
    for drained in &mut waiting {
        assert!(drained.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let [one, two] = permits;
    drop(one);
    assert_eq!(woken.times(), 0);
    drop(two);
    assert_eq!(woken.times(), 2);
}

/// Random steps against a model: units in use, and a line in the order of arrival.
#[test]
fn any_schedule_serves_the_line_in_order_and_loses_no_unit() {
    for seed in 1..=200 {
        schedule(seed);
    }
}

fn schedule(seed: u64) {
    const UNITS: usize = 3;
    let quota = Quota::new(UNITS as u64);
    let mut random = seed;
    let mut random = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut held: Vec<Permit> = Vec::new();
    let mut line: VecDeque<(Acquire, Arc<Woken>)> = VecDeque::new();
    // Of those in line, the first so many have a unit: the model.
    let granted = |held: &Vec<Permit>, line: &VecDeque<_>| line.len().min(UNITS - held.len());
    for step in 0..300 {
        let context = format!("seed {seed}, step {step}");
        match random(5) {
            0 | 1 => {
                let (mut acquire, woken) = (quota.acquire(), Arc::new(Woken::default()));
                let free = held.len() + granted(&held, &line) < UNITS;
                match poll_with(&mut acquire, &woken.clone().into()) {
                    Some(permit) => {
                        assert!(free, "{context}");
                        held.push(permit);
                    }
                    None => {
                        assert!(!free, "{context}");
                        line.push_back((acquire, woken));
                    }
                }
            }
            2 if !held.is_empty() => drop(held.swap_remove(random(held.len()))),
            3 if !line.is_empty() => drop(line.remove(random(line.len()))),
            4 if !line.is_empty() => {
                let index = random(line.len());
                let has_unit = index < granted(&held, &line);
                let (acquire, woken) = &mut line[index];
                let permit = poll_with(acquire, &woken.clone().into());
                assert_eq!(permit.is_some(), has_unit, "{context}");
                if let Some(permit) = permit {
                    assert_eq!(woken.times(), 1, "{context}");
                    held.push(permit);
                    drop(line.remove(index));
                }
            }
            _ => {}
        }
        let granted = granted(&held, &line);
        assert_eq!(quota.used(), (held.len() + granted) as u64, "{context}");
        for (index, (_, woken)) in line.iter().enumerate() {
            assert_eq!(woken.times(), usize::from(index < granted), "{context}: {index} in line");
        }
        assert_eq!(quota.is_wanted(), line.len() > granted, "{context}");
    }
    drop((held, line));
    assert_eq!((quota.used(), quota.waiting.len()), (0, 0), "seed {seed}");
}

/// Every waiter on every thread has its turn; a lost wakeup would leave one waiting for ever.
#[test]
fn threads_pass_units_on() {
    let quota = Quota::new(2);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..2_000 {
                    let permit = wait(quota.acquire());
                    if round % 3 == 0 {
                        drop(quota.acquire());
                    }
                    drop(permit);
                }
            });
        }
    });
    assert_eq!((quota.used(), quota.waiting.len()), (0, 0));
}

fn wait(mut acquire: Acquire) -> Permit {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    loop {
        match poll_with(&mut acquire, &waker) {
            Some(permit) => return permit,
            None => thread::park(),
        }
    }
}

#[test]
fn what_lies_within_another_takes_from_both_and_gives_back_to_both() {
    let host = Quota::new(3);
    let (one, other) = (Quota::within(&host, 2), Quota::within(&host, 2));
    let mut first = one.try_acquire(2).expect("two are free");
    let second = other.try_acquire(1).expect("one is free");
    assert!(other.try_acquire(1).is_none(), "the host has no more");
    assert_eq!((one.used(), other.used(), host.used()), (2, 1, 3));
    first.shrink(1);
    assert!(first.grow(1) && !first.grow(1));
    drop((first, second));
    assert_eq!((one.used(), other.used(), host.used()), (0, 0, 0));
}

#[test]
fn who_waits_for_both_leaves_nothing_behind() {
    let host = Quota::new(1);
    let (one, other) = (Quota::within(&host, 1), Quota::within(&host, 1));
    let held = poll(&mut one.acquire()).expect("one is free");
    let woken = Arc::new(Woken::default());
    let mut waits = other.acquire();
    assert!(poll_with(&mut waits, &Waker::from(woken.clone())).is_none());
    assert_eq!(other.used(), 1, "its own unit it has");
    drop(held);
    assert_eq!(woken.times(), 1);
    let permit = poll(&mut waits).expect("the host's has come back");
    drop(waits);
    assert_eq!((other.used(), host.used()), (1, 1));
    let mut leaves = one.acquire();
    assert!(poll(&mut leaves).is_none());
    drop(leaves);
    assert_eq!(one.used(), 0);
    drop(permit);
    assert_eq!((one.used(), other.used(), host.used()), (0, 0, 0));
    assert_eq!((one.waiting.len(), other.waiting.len(), host.waiting.len()), (0, 0, 0));
}
