//! The line against a model, one step at a time, and under threads.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
    thread::{self, Thread},
};

use super::*;

fn poll<T>(acquire: &mut Acquire<T>) -> Option<(Place<T>, Option<T>)> {
    match Pin::new(acquire).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(taken) => Some(taken),
        Poll::Pending => None,
    }
}

fn take<T>(line: &Arc<Line<T>>) -> (Place<T>, Option<T>) {
    poll(&mut line.acquire()).expect("a place is free")
}

#[test]
fn places_are_given_until_none_is_left() {
    let line: Arc<Line<u32>> = Line::new(2, 2);
    let (first, connection) = take(&line);
    assert_eq!(connection, None);
    let _second = take(&line);
    let mut third = line.acquire();
    assert!(poll(&mut third).is_none());
    assert_eq!(line.counts(), Counts { open: 2, idle: 0, waited: 1 });
    drop(first);
    let (_place, connection) = poll(&mut third).expect("granted");
    assert_eq!(connection, None);
    assert_eq!(line.counts().open, 2);
}

#[test]
fn a_kept_connection_goes_to_the_first_in_line() {
    let line = Line::new(1, 1);
    let (place, _) = take(&line);
    let (mut first, mut second) = (line.acquire(), line.acquire());
    assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
    assert_eq!(place.keep(7), Ok(()));
    // Nobody slips in before the one it was granted to.
    assert!(poll(&mut line.acquire()).is_none());
    assert!(poll(&mut second).is_none());
    let (place, connection) = poll(&mut first).expect("granted");
    assert_eq!(connection, Some(7));
    drop(place);
    assert_eq!(poll(&mut second).expect("granted").1, None);
}

#[test]
fn a_waiter_that_leaves_passes_on_what_it_was_granted() {
    let line = Line::new(1, 1);
    let (place, _) = take(&line);
    let mut waiters: Vec<_> = (0..4).map(|_| line.acquire()).collect();
    assert!(waiters.iter_mut().all(|waiter| poll(waiter).is_none()));
    assert_eq!(place.keep(7), Ok(()));
    drop(waiters.remove(0)); // granted, with a connection
    drop(waiters.remove(1)); // still waiting
    let (place, connection) = poll(&mut waiters[0]).expect("granted");
    assert_eq!(connection, Some(7));
    drop(place);
    drop(waiters.remove(1)); // granted, without a connection
    assert_eq!(line.counts(), Counts { open: 0, idle: 0, waited: 4 });
}

#[test]
fn one_idle_too_many_comes_back_and_frees_its_place() {
    let line = Line::new(3, 1);
    let (one, two) = (take(&line).0, take(&line).0);
    assert_eq!(one.keep(1), Ok(()));
    assert_eq!(two.keep(2), Err(2));
    assert_eq!(line.counts(), Counts { open: 1, idle: 1, waited: 0 });
    assert_eq!(take(&line).1, Some(1));
}

#[test]
fn the_latest_kept_goes_out_first_and_the_oldest_expires() {
    let line = Line::new(3, 3);
    let places: Vec<_> = (0..3).map(|_| take(&line).0).collect();
    for (place, connection) in places.into_iter().zip(1..) {
        assert_eq!(place.keep(connection), Ok(()));
    }
    assert_eq!(line.expire_oldest(), Some(1));
    let (_place, connection) = take(&line);
    assert_eq!(connection, Some(3));
    let (expired, oldest) = line.expire(Instant::now());
    assert_eq!((expired, oldest), (vec![2], None));
    assert_eq!(line.counts(), Counts { open: 1, idle: 0, waited: 0 });
}

#[test]
fn only_what_is_old_enough_expires() {
    let line = Line::new(2, 2);
    let (one, two) = (take(&line).0, take(&line).0);
    let begin = Instant::now();
    assert_eq!(one.keep(1), Ok(()));
    let between = line.oldest().expect("one is idle");
    assert_eq!(two.keep(2), Ok(()));
    assert!(line.expire(begin - std::time::Duration::from_nanos(1)).0.is_empty());
    let (expired, _) = line.expire(between);
    assert_eq!(expired.first(), Some(&1));
}

#[test]
fn a_dead_connection_is_swapped_for_a_live_one() {
    let line = Line::new(2, 2);
    let (one, two) = (take(&line).0, take(&line).0);
    assert_eq!((one.keep(1), two.keep(2)), (Ok(()), Ok(())));
    let (mut place, connection) = take(&line);
    assert_eq!(connection, Some(2));
    assert_eq!(place.swap(), Some(1));
    assert_eq!(place.swap(), None);
    assert_eq!(line.counts(), Counts { open: 1, idle: 0, waited: 0 });
}

#[test]
fn one_sweeps_until_nothing_is_open() {
    let line: Arc<Line<u32>> = Line::new(1, 1);
    let (place, _) = take(&line);
    assert!(line.start_sweeping());
    assert!(!line.start_sweeping());
    assert!(!line.may_stop_sweeping());
    drop(place);
    assert!(line.may_stop_sweeping());
    assert!(line.start_sweeping());
}

/// A small generator of its own, so that a seed is a schedule.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).expect("below n")
    }
}

/// What the line must do, told as simply as can be.
#[derive(Default)]
struct Model {
    /// Idle connections, the latest last.
    idle: Vec<u32>,
    held: usize,
    /// Waiters in line, by number.
    waiting: VecDeque<usize>,
    /// What waiters were granted and have not looked at.
    granted: Vec<(usize, Option<u32>)>,
}

impl Model {
    fn release(&mut self) {
        match self.waiting.pop_front() {
            Some(waiter) => self.granted.push((waiter, None)),
            None => self.held -= 1,
        }
    }

    fn keep(&mut self, connection: u32, idle_max: usize) -> bool {
        if let Some(waiter) = self.waiting.pop_front() {
            self.granted.push((waiter, Some(connection)));
            return true;
        }
        self.held -= 1;
        let kept = self.idle.len() < idle_max;
        if kept {
            self.idle.push(connection);
        }
        kept
    }
}

/// Thousands of random schedules of everything that can happen to a line, each step compared with the model.
#[test]
fn random_schedules_agree_with_the_model() {
    for seed in 1..=2_000_u64 {
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (open_max, idle_max) = (1 + rng.below(4), rng.below(4));
        let line = Line::new(open_max, idle_max);
        let mut model = Model::default();
        let mut places: Vec<Place<u32>> = Vec::new();
        let mut waiters: Vec<(usize, Acquire<u32>)> = Vec::new();
        for step in 0..120_usize {
            let connection = u32::try_from(step).expect("small");
            match rng.below(7) {
                // Somebody arrives.
                0 | 1 => {
                    let mut acquire = line.acquire();
                    let taken = poll(&mut acquire);
                    let expected = if let Some(connection) = model.idle.pop() {
                        Some(Some(connection))
                    } else if model.held < open_max {
                        Some(None)
                    } else {
                        None
                    };
                    assert_eq!(taken.as_ref().map(|(_, c)| *c), expected, "seed {seed} step {step}");
                    match taken {
                        Some((place, _)) => {
                            model.held += 1;
                            places.push(place);
                        }
                        None => {
                            model.waiting.push_back(step);
                            waiters.push((step, acquire));
                        }
                    }
                }
                // A waiter looks.
                2 if !waiters.is_empty() => {
                    let i = rng.below(waiters.len());
                    let (number, acquire) = &mut waiters[i];
                    let expected = model.granted.iter().position(|(waiter, _)| waiter == number);
                    let expected = expected.map(|at| model.granted.remove(at).1);
                    let taken = poll(acquire);
                    assert_eq!(taken.as_ref().map(|(_, c)| *c), expected, "seed {seed} step {step}");
                    if let Some((place, _)) = taken {
                        places.push(place);
                        drop(waiters.swap_remove(i));
                    }
                }
                // A waiter leaves.
                3 if !waiters.is_empty() => {
                    let (number, acquire) = waiters.swap_remove(rng.below(waiters.len()));
                    drop(acquire);
                    model.waiting.retain(|waiter| *waiter != number);
                    if let Some(at) = model.granted.iter().position(|(waiter, _)| *waiter == number) {
                        match model.granted.remove(at).1 {
                            Some(connection) => drop(model.keep(connection, idle_max)),
                            None => model.release(),
                        }
                    }
                }
                4 if !places.is_empty() => {
                    drop(places.swap_remove(rng.below(places.len())));
                    model.release();
                }
                5 if !places.is_empty() => {
                    let kept = places.swap_remove(rng.below(places.len())).keep(connection).is_ok();
                    assert_eq!(kept, model.keep(connection, idle_max), "seed {seed} step {step}");
                }
                6 => {
                    let expected = if model.idle.is_empty() { None } else { Some(model.idle.remove(0)) };
                    assert_eq!(line.expire_oldest(), expected, "seed {seed} step {step}");
                }
                _ => {}
            }
            let counts = line.counts();
            assert_eq!(
                (counts.open, counts.idle),
                (model.held + model.idle.len(), model.idle.len()),
                "seed {seed} step {step}"
            );
        }
        drop((waiters, places));
        let idle = line.counts().idle;
        assert_eq!(line.counts().open, idle, "seed {seed}: every place came back");
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a place, or gives up after so many wake-ups or polls.
fn wait<T>(line: &Arc<Line<T>>, patience: Option<usize>) -> Option<(Place<T>, Option<T>)> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut acquire = line.acquire();
    for polls in 0.. {
        if let Poll::Ready(taken) = Pin::new(&mut acquire).poll(&mut Context::from_waker(&waker)) {
            return Some(taken);
        }
        match patience {
            Some(patience) if polls >= patience => return None,
            Some(_) => thread::yield_now(),
            None => thread::park(),
        }
    }
    None
}

/// Threads that wait, give up, keep, free and expire at random: never more held than there are places, no connection in
/// two hands, nobody left waiting, and at the end every place is back.
#[test]
fn threads_lose_no_place_and_no_wakeup() {
    const OPEN_MAX: usize = 3;
    const THREADS: u64 = 6;
    for seed in 1..=8_u64 {
        let line: Arc<Line<Arc<AtomicUsize>>> = Line::new(OPEN_MAX, 2);
        let held = AtomicUsize::new(0);
        let taken: Vec<_> = (0..OPEN_MAX).map(|_| take(&line).0).collect();
        thread::scope(|scope| {
            for worker in 0..THREADS {
                let (line, held) = (&line, &held);
                scope.spawn(move || {
                    let mut rng = Rng(seed * 1_000 + worker + 1);
                    for round in 0..2_000 {
                        let patience = if round > 0 && rng.below(4) == 0 { Some(rng.below(3)) } else { None };
                        let Some((place, connection)) = wait(line, patience) else { continue };
                        assert!(held.fetch_add(1, Ordering::SeqCst) < OPEN_MAX);
                        let connection = connection.unwrap_or_default();
                        assert_eq!(connection.fetch_add(1, Ordering::SeqCst), 0, "in one hand only");
                        if rng.below(2) == 0 {
                            thread::yield_now();
                        }
                        connection.fetch_sub(1, Ordering::SeqCst);
                        held.fetch_sub(1, Ordering::SeqCst);
                        match rng.below(4) {
                            0 => drop(place),
                            _ => drop(place.keep(connection)),
                        }
                        if rng.below(16) == 0 {
                            drop(line.expire_oldest());
                        }
                    }
                });
            }
            // All begin in line.
            while line.counts().waited < THREADS {
                thread::yield_now();
            }
            drop(taken);
        });
        let counts = line.counts();
        assert_eq!(counts.open, counts.idle, "seed {seed}");
        line.expire(Instant::now());
        assert_eq!(line.counts().open, 0, "seed {seed}");
    }
}
