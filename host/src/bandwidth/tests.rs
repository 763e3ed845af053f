use std::time::{Duration, Instant};

use conet_rt::{WorkerConfig, block_on, time};

use super::*;

fn run(test: impl AsyncFnOnce() + Send + 'static) {
    block_on(WorkerConfig::default(), async move { test().await }).expect("a worker");
}

/// What may have passed since then.
fn most(per_second: u64, since: Instant) -> u64 {
    burst_bytes(per_second) + (since.elapsed().as_secs_f64() * per_second as f64).ceil() as u64
}

#[test]
fn no_more_passes_than_the_rate_and_a_burst() {
    const RATE: u64 = 1 << 20;
    run(async || {
        let begun = Instant::now();
        let bandwidth = Bandwidth::new(RATE);
        let tasks: Vec<_> = (1..=8)
            .map(|nth| {
                let bandwidth = bandwidth.clone();
                conet_rt::spawn(async move {
                    let progress = Progress::default();
                    for _ in 0..(32 << 10) / (nth * 128) {
                        bandwidth.take(nth * 128, &progress).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("it ends");
        }
        let passed: u64 = (1..=8).map(|nth| (32 << 10) / (nth * 128) * (nth * 128)).sum();
        assert!(passed > 2 * burst_bytes(RATE), "{passed}: a test that waits");
        assert!(passed <= most(RATE, begun), "{passed} in {:?}", begun.elapsed());
    });
}

/// Whoever gives up has taken nothing, and the next one has its turn.
#[test]
fn who_gives_up_leaves_nothing_behind() {
    const RATE: u64 = 100_000;
    run(async || {
        let bandwidth = Bandwidth::new(RATE);
        assert!(bandwidth.try_take(burst_bytes(RATE)), "a burst is there");
        let progress = Progress::default();
        let chunk = chunk_bytes(RATE);
        for _ in 0..3 {
            let given_up = time::timeout(Duration::from_millis(1), bandwidth.take(chunk, &progress)).await;
            assert!(given_up.is_err(), "a chunk takes a tenth of a second");
        }
        assert_eq!(bandwidth.line().len(), 0);
        assert!(bandwidth.waiting.load(Relaxed) == 0);
        bandwidth.take(chunk, &progress).await;
    });
}

/// It had its turn, and is gone before it has seen that.
#[test]
fn a_turn_that_nobody_takes_is_the_next_ones() {
    run(async || {
        let bandwidth = Bandwidth::new(1_000_000);
        while bandwidth.try_take(1000) {}
        let progress = Progress::default();
        let mut take = Box::pin(bandwidth.take(1000, &progress));
        let _ = time::timeout(Duration::ZERO, &mut take).await;
        bandwidth.serve(1000);
        let before = *bandwidth.lot();
        drop(take);
        assert_eq!(*bandwidth.lot(), before + 1000);
    });
}

#[test]
fn workers_take_lots() {
    let bandwidth = Bandwidth::new(16_000_000);
    let lot_bytes = bandwidth.lot_bytes.load(Relaxed);
    assert!(bandwidth.try_take(1));
    assert_eq!(*bandwidth.lot(), lot_bytes - 1);
    let other = bandwidth.clone();
    std::thread::spawn(move || assert_eq!(*other.lot(), 0)).join().expect("it has its own");
    assert!(bandwidth.try_take(lot_bytes));
    assert_eq!(*bandwidth.lot(), lot_bytes - 1, "a rest is used before another lot");
    bandwidth.give_back(1);
    assert_eq!(*bandwidth.lot(), lot_bytes);
}
