//! Groups share a worker by weight. What is compared is CPU time, as the tasks themselves measure it: other processes do
//! not matter.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::time::Duration;

use conet_rt::{Group, Handle, Task, Worker, WorkerConfig, block_on, spawn, spawn_in, time};
use rustix::time::{ClockId, clock_gettime};

#[test]
fn a_task_has_as_much_as_a_hundred_of_another_group() {
    let [one, hundred] = spun([(100, 1), (100, 100)]);
    assert_ratio(one, hundred, 1.0);
}

#[test]
fn time_is_shared_by_weight() {
    let [light, heavy] = spun([(1, 10), (3, 1)]);
    assert_ratio(heavy, light, 3.0);
}

#[test]
fn more_groups_than_two() {
    let shares = spun([(100, 1), (200, 7), (100, 30), (400, 2)]);
    for (share, weight) in shares.into_iter().zip([1.0, 2.0, 1.0, 4.0]) {
        assert_ratio(share, shares[0], weight);
    }
}

#[test]
fn what_a_group_has_used_is_told() {
    let (spinning, other) = (group(100), group(100));
    let spun = Rc::new(Cell::new(Duration::ZERO));
    run(async {
        let task = spin_in(&spinning, &spun, |spun| spun >= ENOUGH);
        let _other = spin_in(&other, &Spun::default(), |_| false);
        task.await.unwrap();
    });
    // The rest is what it takes to switch between tasks, and to end them.
    assert!(spinning.cpu_time() >= spun.get());
    assert_ratio(spinning.cpu_time(), spun.get(), 1.0);
}

#[test]
fn a_weight_may_change() {
    let (changing, other) = (group(100), group(100));
    let (spun, others) = (Spun::default(), Spun::default());
    run(async {
        let _other = spin_in(&other, &others, |_| false);
        spin_in(&changing, &spun, |spun| spun >= ENOUGH).await.unwrap();
        assert_ratio(spun.get(), others.get(), 1.0);
        changing.set_weight(NonZeroU32::new(300).unwrap());
        let (before, others_before) = (spun.get(), others.get());
        spin_in(&changing, &spun, move |spun| spun >= before + 2 * ENOUGH).await.unwrap();
        assert_ratio(spun.get() - before, others.get() - others_before, 3.0);
    });
}

#[test]
fn an_idle_group_saves_nothing_up() {
    let (idle, other) = (group(100), group(100));
    let (spun, others) = (Spun::default(), Spun::default());
    run(async {
        let _other = spin_in(&other, &others, |_| false);
        // Its task is there all the time, and so is its queue.
        let woken = spin_in(&other, &others, |spun| spun >= ENOUGH);
        let spinning = spawn_in(&idle, {
            let (idle, spun, others) = (idle.clone(), spun.clone(), others.clone());
            async move {
                woken.await.unwrap();
                let before = others.get();
                spin_in(&idle, &spun, |spun| spun >= ENOUGH).await.unwrap();
                others.get() - before
            }
        });
        let others = spinning.await.unwrap();
        assert_ratio(spun.get(), others, 1.0);
    });
}

/// A group's burst is over after a quarter of a millisecond, so in no more than three tasks of a tenth.
#[test]
fn one_that_is_woken_runs_after_the_burst() {
    let (spinning, waiting) = (group(100), group(100));
    let polls = Rc::new(Cell::new(0));
    let waiter: Rc<RefCell<Option<(usize, Waker)>>> = Rc::default();
    run(async {
        for _ in 0..100 {
            let (polls, waiter) = (polls.clone(), waiter.clone());
            spawn_in(&spinning, async move {
                loop {
                    work();
                    polls.set(polls.get() + 1);
                    // Seldom enough that the other stays far below its share.
                    if waiter.borrow().as_ref().is_some_and(|(when, _)| polls.get() == *when) {
                        let waiter = waiter.borrow().as_ref().map(|(_, waker)| waker.clone());
                        waiter.inspect(Waker::wake_by_ref);
                    }
                    time::yield_now().await;
                }
            })
            .detach();
        }
        let task = spawn_in(&waiting, async move {
            for _ in 0..20 {
                let when = polls.get() + 50;
                poll_fn(|cx| match polls.get() < when {
                    true => {
                        waiter.replace(Some((when, cx.waker().clone())));
                        Poll::Pending
                    }
                    false => Poll::Ready(()),
                })
                .await;
                let late = polls.get() - when;
                assert!(late <= 2, "{late} other tasks ran before it");
            }
        });
        task.await.unwrap();
    });
}

#[test]
fn what_a_task_spawns_is_in_its_group() {
    let (parents, strangers) = (group(100), group(100));
    let elsewhere = strangers.clone();
    run(async {
        let task = spawn_in(&parents, async move {
            let child = spawn(async { spawn(async { spin_alone() }).await.unwrap() });
            // Not what is put into another group, nor what that has spawned.
            spawn_in(&elsewhere, async { spawn(async { spin_alone() }).await.unwrap() }).await.unwrap();
            child.await.unwrap();
        });
        task.await.unwrap();
        // This task is in neither.
        spawn(async { spin_alone() }).await.unwrap();
    });
    assert_ratio(parents.cpu_time(), ENOUGH, 1.0);
    assert_ratio(strangers.cpu_time(), ENOUGH, 1.0);
}

#[test]
fn other_threads_choose_a_group() {
    let group = group(100);
    let workers = [(); 2].map(|()| Worker::start(WorkerConfig::default()).unwrap());
    let (done, all_done) = mpsc::channel();
    for worker in &workers {
        let done = done.clone();
        let start = move || {
            let child = spawn(async { spin_alone() });
            async move {
                spin_alone();
                child.await.unwrap();
                done.send(()).unwrap();
            }
        };
        worker.handle().spawn_in(&group, start).unwrap();
        worker.handle().spawn(|| async { spin_alone() }).unwrap();
    }
    (0..2).for_each(|_| all_done.recv().unwrap());
    for worker in workers {
        worker.stop();
        worker.join().unwrap();
    }
    assert_ratio(group.cpu_time(), 4 * ENOUGH, 1.0);
}

#[test]
fn stop_drops_the_tasks_of_all_groups() {
    let worker = Worker::start(WorkerConfig::default()).unwrap();
    let alive = Arc::new(());
    let (started, starts) = mpsc::channel();
    for weight in 1..=3 {
        let (alive, started) = (alive.clone(), started.clone());
        let start = move || async move {
            let (waiting, spinning) = (alive.clone(), alive.clone());
            spawn(async move {
                let _alive = waiting;
                pending::<()>().await;
            })
            .detach();
            spawn(async move {
                let _alive = spinning;
                loop {
                    time::yield_now().await;
                }
            })
            .detach();
            time::yield_now().await;
            started.send(()).unwrap();
            drop(alive);
        };
        worker.handle().spawn_in(&group(weight), start).unwrap();
    }
    (0..3).for_each(|_| starts.recv().unwrap());
    worker.stop();
    let handle = worker.handle();
    worker.join().unwrap();
    assert_eq!((Arc::strong_count(&alive), handle.tasks()), (1, 0));
}

fn group(weight: u32) -> Group {
    Group::new(NonZeroU32::new(weight).unwrap())
}

/// CPU time that the tasks of a group have spent spinning.
type Spun = Rc<Cell<Duration>>;

/// What groups get, given their weights and how many tasks spin in each.
fn spun<const N: usize>(groups: [(u32, usize); N]) -> [Duration; N] {
    let spuns: [Spun; N] = std::array::from_fn(|_| Spun::default());
    run(async {
        let all = spuns.clone();
        let enough = move |_| all.iter().map(|spun| spun.get()).sum::<Duration>() >= (N as u32) * ENOUGH;
        let mut tasks = Vec::new();
        for ((weight, count), spun) in groups.into_iter().zip(&spuns) {
            let group = group(weight);
            tasks.extend((0..count).map(|_| spin_in(&group, spun, enough.clone())));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    spuns.map(|spun| spun.get())
}

/// Starts a task that spins until its group has spun enough.
fn spin_in(group: &Group, spun: &Spun, enough: impl Fn(Duration) -> bool + 'static) -> Task<()> {
    let spun = spun.clone();
    spawn_in(group, async move {
        while !enough(spun.get()) {
            spun.set(spun.get() + work());
            time::yield_now().await;
        }
    })
}

/// Spins in one go.
fn spin_alone() {
    let mut spun = Duration::ZERO;
    while spun < ENOUGH {
        spun += work();
    }
}

/// A tenth of a millisecond's work; tells how much it was.
fn work() -> Duration {
    let began = cpu_time();
    loop {
        let worked = cpu_time() - began;
        if worked >= Duration::from_micros(100) {
            return worked;
        }
    }
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

fn run(test: impl Future<Output = ()>) {
    block_on(WorkerConfig::default(), test).unwrap();
}

/// Within a tenth.
fn assert_ratio(one: Duration, other: Duration, expected: f64) {
    let ratio = one.as_secs_f64() / other.as_secs_f64();
    let off = ratio / expected;
    assert!((0.9..1.1).contains(&off), "{one:?} to {other:?} is {ratio:.3} and not {expected}");
}

/// Many bursts, and many times what one may be ahead.
const ENOUGH: Duration = Duration::from_millis(100);

/// Also those that wait for ever, and those that are started later.
#[test]
fn a_cancelled_group_s_tasks_are_dropped_and_no_others() {
    struct Gone(Arc<AtomicUsize>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let gone = Arc::new(AtomicUsize::new(0));
    let (cancelled, other) = (Group::new(Group::DEFAULT_WEIGHT), Group::new(Group::DEFAULT_WEIGHT));
    block_on(WorkerConfig::default(), async {
        let worker = Handle::current().unwrap();
        let seen = gone.clone();
        let kept = spawn_in(&other, async move {
            while seen.load(Ordering::SeqCst) < 3 {
                time::yield_now().await;
            }
            true
        });
        for waits in [true, false] {
            let gone = Gone(gone.clone());
            let task = async move {
                let _gone = gone;
                loop {
                    if waits { pending::<()>().await } else { time::yield_now().await }
                }
            };
            spawn_in(&cancelled, task).detach();
        }
        time::yield_now().await;
        cancelled.cancel([&worker]);
        let late = Gone(gone.clone());
        spawn_in(&cancelled, async move { drop(late) }).detach();
        // It goes on until the others are gone.
        assert!(kept.await.unwrap());
    })
    .unwrap();
}
