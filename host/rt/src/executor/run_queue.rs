//! Whose tasks run next: weighted fair queueing among groups, by the CPU time they have used.
//!
//! Each group has a virtual runtime on each worker, its CPU time divided by its weight, and the group with the least runs
//! next: a burst of the tasks that it has ready. So groups that always have some stay level in virtual runtime, whatever
//! they have to run, and that is CPU time by weight.
//!
//! A group that was idle comes back no lower than where the running one began its burst, or it would have the worker for
//! itself until it had made up for its sleep (start-time fair queueing). It needs no bonus to be served soon: nobody
//! is lower, so it is the next, unless it is itself ahead because it has just had more than its share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use slab::Slab;

use super::group::{Group, GroupId};
use super::meter::{Charge, Meter, Reading};
use super::task_queue::{State, TaskQueue, Vruntime};

/// The ready tasks of one worker.
pub(super) struct RunQueue<T> {
    queues: Slab<TaskQueue<T>>,
    /// The queue of each group.
    of_group: BTreeMap<GroupId, usize>,
    /// The waiting queues.
    order: BinaryHeap<Reverse<Turn>>,
    /// Where the last burst began. It never goes back.
    floor: Vruntime,
    meter: Meter,
}

/// A turn of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Burst {
    pub(super) queue: usize,
    /// Tasks that are ready as it begins.
    pub(super) ready: usize,
    /// They are dropped, not run.
    pub(super) cancelled: bool,
}

/// A waiting queue's place in the order, the least first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    vruntime: Vruntime,
    /// Of two that are level, one that was idle goes before one that was not.
    goes_on: bool,
    queue: usize,
}

impl<T> RunQueue<T> {
    /// With a queue of this group, which stays.
    pub(super) fn new(default: &Group, clock: fn() -> Reading) -> RunQueue<T> {
        let (queues, of_group, order, floor) = Default::default();
        let mut run_queue = RunQueue { queues, of_group, order, floor, meter: Meter::new(clock) };
        let queue = run_queue.enter(default);
        debug_assert_eq!(queue, DEFAULT);
        run_queue
    }

    /// Adds a user to the group's queue, which is made if need be.
    pub(super) fn enter(&mut self, group: &Group) -> usize {
        let queue = *self.of_group.entry(group.id()).or_insert_with(|| {
            // Level with who runs now, as one that was idle.
            self.queues.insert(TaskQueue::new(group, self.floor))
        });
        self.join(queue);
        queue
    }

    /// Adds a user to a queue that has one.
    pub(super) fn join(&mut self, queue: usize) {
        self.queues[queue].users += 1;
    }

    /// A user is gone.
    pub(super) fn leave(&mut self, queue: usize) {
        let entry = &mut self.queues[queue];
        entry.users -= 1;
        // It goes when its turn comes. Were it to go at once, what it has had too much would be forgotten when the group
        // comes back.
        if entry.is_over() && entry.state == State::Idle {
            self.wait(queue, false);
        }
    }

    /// A task is ready.
    #[inline]
    pub(super) fn push(&mut self, queue: usize, task: T) {
        let entry = &mut self.queues[queue];
        entry.ready.push_back(task);
        if entry.state == State::Idle {
            self.wait(queue, false);
        }
    }

    /// Whether a queue waits for its turn. While one runs, another one.
    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        !self.order.is_empty()
    }

    /// Whether there is more than one group, besides the worker's own.
    #[inline]
    pub(super) fn is_shared(&self) -> bool {
        self.queues.len() > 2
    }

    /// The group's queue, if it has one.
    pub(super) fn find(&self, group: &Group) -> Option<usize> {
        self.of_group.get(&group.id()).copied()
    }

    /// Begins a burst. `looked`: at the sockets, since the last one.
    pub(super) fn begin(&mut self, looked: bool, now: Instant) -> Option<Burst> {
        if looked {
            self.meter.looked();
        }
        if self.order.len() > 1 {
            // Before the choice: who was alone has not been charged.
            self.settle(now);
        }
        let queue = self.next(now)?;
        let charge = self.meter.start(queue, now);
        self.charge(charge);
        let entry = &mut self.queues[queue];
        entry.state = State::Running;
        self.floor = entry.vruntime;
        Some(Burst { queue, ready: entry.ready.len(), cancelled: entry.group().is_cancelled() })
    }

    /// The next task of the burst.
    #[inline]
    pub(super) fn pop(&mut self, queue: usize) -> Option<T> {
        self.queues[queue].ready.pop_front()
    }

    /// A task of the burst has run for so long.
    #[inline]
    pub(super) fn ran(&mut self, queue: usize, time: Duration) {
        self.queues[queue].ran(time);
    }

    /// Whether the queue's tasks run for long, of late. Known only where it matters: among several groups.
    pub(super) fn runs_long(&self, queue: usize) -> bool {
        self.queues[queue].runs_long()
    }

    /// Ends the burst. It is charged now if it matters now.
    pub(super) fn end(&mut self, queue: usize, now: Instant) {
        let charge = if self.has_waiting() { self.meter.settle(now) } else { self.meter.settle_old(now) };
        self.charge(charge);
        let entry = &mut self.queues[queue];
        if entry.ready.is_empty() && !entry.is_over() {
            entry.state = State::Idle;
        } else {
            self.wait(queue, true);
        }
    }

    /// Charges what is not charged yet.
    pub(super) fn settle(&mut self, now: Instant) {
        let charge = self.meter.settle(now);
        self.charge(charge);
    }

    /// All ready tasks, whose ever they are.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.queues.iter_mut().flat_map(|(_, entry)| entry.ready.drain(..)).collect()
    }

    /// Queues of groups, the default one's too.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queues.len()
    }

    /// Takes the queue with the least virtual runtime out of the order.
    fn next(&mut self, now: Instant) -> Option<usize> {
        while let Some(Reverse(turn)) = self.order.pop() {
            let entry = &mut self.queues[turn.queue];
            if entry.vruntime > turn.vruntime {
                // It was alone, and has been charged since.
                self.order.push(Reverse(Turn { vruntime: entry.vruntime, ..turn }));
            } else if entry.is_over() {
                self.remove(turn.queue, now);
            } else if entry.ready.is_empty() {
                // The group has come back, but with nothing ready yet; or all was drained.
                entry.state = State::Idle;
            } else {
                return Some(turn.queue);
            }
        }
        None
    }

    fn wait(&mut self, queue: usize, goes_on: bool) {
        let entry = &mut self.queues[queue];
        entry.state = State::Waiting;
        entry.vruntime = entry.vruntime.max(self.floor);
        self.order.push(Reverse(Turn { vruntime: entry.vruntime, goes_on, queue }));
    }

    fn remove(&mut self, queue: usize, now: Instant) {
        if self.meter.is_of(queue) {
            self.settle(now);
        }
        let entry = self.queues.remove(queue);
        self.of_group.remove(&entry.group().id());
    }

    fn charge(&mut self, charge: Option<Charge>) {
        if let Some(Charge { queue, nanos }) = charge {
            self.queues[queue].charge(nanos);
        }
    }
}

/// The queue of the worker's own group.
pub(super) const DEFAULT: usize = 0;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::num::NonZeroU32;

    use super::*;

    thread_local! {
        static CPU: Cell<u64> = const { Cell::new(0) };
        /// What other processes have had.
        static STOLEN: Cell<u64> = const { Cell::new(0) };
        static BEGAN: Instant = Instant::now();
        static READINGS: Cell<usize> = const { Cell::new(0) };
    }

    fn clock() -> Reading {
        READINGS.set(READINGS.get() + 1);
        Reading { cpu: CPU.get(), at: now() }
    }

    fn now() -> Instant {
        BEGAN.with(|began| *began) + Duration::from_nanos(CPU.get() + STOLEN.get())
    }

    fn group(weight: u32) -> Group {
        Group::new(NonZeroU32::new(weight).unwrap())
    }

    /// A run queue whose tasks are names.
    struct Fixture {
        run_queue: RunQueue<&'static str>,
    }

    impl Fixture {
        fn new() -> Fixture {
            Fixture { run_queue: RunQueue::new(&group(100), clock) }
        }

        /// A group whose queue has a user.
        fn enter(&mut self, weight: u32) -> (Group, usize) {
            let group = group(weight);
            let queue = self.run_queue.enter(&group);
            (group, queue)
        }

        fn begin(&mut self) -> Option<usize> {
            Some(self.run_queue.begin(false, now())?.queue)
        }

        /// Runs a burst of one task that takes so long.
        fn burst(&mut self, nanos: u64) -> Option<&'static str> {
            let queue = self.begin()?;
            let task = self.run_queue.pop(queue);
            self.end(queue, nanos);
            task
        }

        /// As `burst`, but the task wakes itself.
        fn burst_of_spinning(&mut self, nanos: u64) -> &'static str {
            let queue = self.begin().unwrap();
            let task = self.run_queue.pop(queue).unwrap();
            self.run_queue.push(queue, task);
            self.end(queue, nanos);
            task
        }

        fn end(&mut self, queue: usize, nanos: u64) {
            CPU.set(CPU.get() + nanos);
            self.run_queue.end(queue, now());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "it takes many bursts, and nothing unsafe")]
    fn time_is_shared_by_weight_however_long_the_bursts() {
        let mut fixture = Fixture::new();
        let groups = [1, 3, 10].map(|weight| {
            let (group, queue) = fixture.enter(weight);
            fixture.run_queue.push(queue, "spinning");
            group
        });
        for burst in 0..20_000u64 {
            fixture.burst_of_spinning(1000 + burst * 7919 % 250_000);
        }
        fixture.run_queue.settle(now());
        let unit = groups[0].cpu_time().as_nanos() as f64;
        for group in groups {
            let share = group.cpu_time().as_nanos() as f64 / unit / f64::from(group.weight().get());
            assert!((0.99..1.01).contains(&share), "{group:?}: {share}");
        }
    }

    #[test]
    fn one_that_was_idle_is_next_after_the_burst() {
        let mut fixture = Fixture::new();
        for _ in 0..10 {
            let spinning = fixture.enter(100).1;
            fixture.run_queue.push(spinning, "spinning");
        }
        (0..20).for_each(|_| assert_eq!(fixture.burst_of_spinning(250_000), "spinning"));
        let idle = fixture.enter(1).1;
        for _ in 0..10 {
            let running = fixture.begin().unwrap();
            let task = fixture.run_queue.pop(running).unwrap();
            fixture.run_queue.push(idle, "woken");
            fixture.run_queue.push(running, task);
            fixture.end(running, 250_000);
            assert_eq!(fixture.burst(10), Some("woken"));
            // The others go on, until the few nanoseconds are made up for.
            (0..20).for_each(|_| assert_eq!(fixture.burst_of_spinning(250_000), "spinning"));
        }
    }

    #[test]
    fn whose_tasks_run_long_is_known_by_the_last_few() {
        let mut fixture = Fixture::new();
        let [computing, serving] = [100; 2].map(|weight| fixture.enter(weight).1);
        let runs_long =
            |fixture: &Fixture| [computing, serving].map(|queue| fixture.run_queue.runs_long(queue));
        assert_eq!(runs_long(&fixture), [false; 2], "nobody knows yet");
        for _ in 0..100 {
            fixture.run_queue.ran(computing, Duration::from_millis(1));
            fixture.run_queue.ran(serving, Duration::from_micros(20));
        }
        assert_eq!(runs_long(&fixture), [true, false]);
        (0..100).for_each(|_| fixture.run_queue.ran(computing, Duration::from_micros(20)));
        assert_eq!(runs_long(&fixture), [false; 2], "what was long ago does not count");
    }

    #[test]
    fn sleep_earns_no_credit() {
        let mut fixture = Fixture::new();
        let (sleeper, asleep) = fixture.enter(100);
        let (other, spinning) = fixture.enter(100);
        fixture.run_queue.push(spinning, "spinning");
        for _ in 0..200 {
            fixture.burst_of_spinning(1_000_000);
        }
        let before = other.cpu_time();
        fixture.run_queue.push(asleep, "awake");
        for _ in 0..100 {
            fixture.burst_of_spinning(1_000_000);
        }
        let ahead = sleeper.cpu_time().abs_diff(other.cpu_time() - before);
        assert!(ahead <= Duration::from_millis(2), "{ahead:?} ahead");
    }

    #[test]
    fn a_group_that_comes_back_has_not_lost_its_debt() {
        let mut fixture = Fixture::new();
        let spinning = fixture.enter(100).1;
        fixture.run_queue.push(spinning, "spinning");
        let coming = group(100);
        for _ in 0..100 {
            let queue = fixture.run_queue.enter(&coming);
            fixture.run_queue.push(queue, "coming");
            // A long task, and the group's last.
            while fixture.begin() == Some(spinning) {
                fixture.end(spinning, 100);
            }
            fixture.run_queue.pop(queue).unwrap();
            fixture.run_queue.leave(queue);
            fixture.end(queue, 10_000);
        }
        // Once the other has had as much, it is forgotten.
        while fixture.run_queue.len() > 2 {
            fixture.burst_of_spinning(100);
        }
        let (came, all) = (coming.cpu_time().as_nanos() as f64, CPU.get() as f64);
        assert!((0.45..0.55).contains(&(came / all)), "it had {came} ns of {all} ns");
    }

    #[test]
    fn a_queue_goes_with_its_last_user() {
        let mut fixture = Fixture::new();
        let (group, queue) = fixture.enter(1);
        fixture.run_queue.push(queue, "only");
        assert_eq!(fixture.burst(500), Some("only"));
        assert_eq!(fixture.begin(), None);
        assert_eq!(fixture.run_queue.len(), 2, "its task waits");
        fixture.run_queue.leave(queue);
        assert_eq!(fixture.begin(), None);
        assert_eq!(fixture.run_queue.len(), 1);
        assert!(fixture.run_queue.of_group.len() == 1 && !fixture.run_queue.has_waiting());
        assert_eq!(group.cpu_time(), Duration::from_nanos(500), "what it used is not forgotten");
    }

    #[test]
    fn the_clock_is_not_read_for_each_burst_of_one_that_is_alone() {
        let mut fixture = Fixture::new();
        let (group, queue) = fixture.enter(1);
        READINGS.set(0);
        for _ in 0..1000 {
            fixture.run_queue.push(queue, "short");
            assert_eq!(fixture.burst(10_000), Some("short"));
        }
        fixture.run_queue.settle(now());
        assert_eq!(group.cpu_time(), Duration::from_millis(10));
        assert!(READINGS.get() <= 11, "{} readings in ten milliseconds", READINGS.get());
    }

    #[test]
    fn nor_for_each_short_one_of_several() {
        let mut fixture = Fixture::new();
        let groups = [1, 2, 3].map(|weight| {
            let (group, queue) = fixture.enter(weight);
            fixture.run_queue.push(queue, "short");
            group
        });
        READINGS.set(0);
        for _ in 0..1000 {
            fixture.burst_of_spinning(1000);
        }
        let used: Duration = groups.iter().map(Group::cpu_time).sum();
        assert_eq!(used, Duration::from_millis(1));
        assert!(READINGS.get() <= 21, "{} readings in a millisecond", READINGS.get());
    }

    #[test]
    fn what_other_processes_have_had_is_not_charged() {
        let mut fixture = Fixture::new();
        let groups = [1, 1].map(|weight| {
            let (group, queue) = fixture.enter(weight);
            fixture.run_queue.push(queue, "spinning");
            group
        });
        for burst in 0..400 {
            let queue = fixture.begin().unwrap();
            // Always the same one's bad luck.
            let stolen = if burst % 10 == 0 && queue == 1 { 4_000_000 } else { 0 };
            STOLEN.set(STOLEN.get() + stolen);
            fixture.end(queue, 10_000);
        }
        let used = groups.map(|group| group.cpu_time().as_micros());
        assert_eq!(used, [2000, 2000]);
    }

    #[test]
    fn a_look_is_charged_to_nobody_when_there_are_several() {
        let mut fixture = Fixture::new();
        let groups = [1, 1].map(|weight| {
            let (group, queue) = fixture.enter(weight);
            fixture.run_queue.push(queue, "spinning");
            group
        });
        for _ in 0..10 {
            let queue = fixture.run_queue.begin(true, now()).unwrap().queue;
            fixture.end(queue, 100);
            CPU.set(CPU.get() + 77);
        }
        let used: Duration = groups.iter().map(Group::cpu_time).sum();
        assert_eq!(used, Duration::from_nanos(1000));
    }
}
