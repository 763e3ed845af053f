//! I/O that is always ready must not keep the worker.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use conet_rt::{DriverKind, budget, spawn, time};

use crate::drivers::*;

/// On epoll, where a recv with bytes there completes at once.
#[test]
fn a_busy_reader_lets_others_run() {
    let received = 20 * budget::OPS as usize;
    under(DriverKind::Epoll, async {
        let (near, mut far) = std_pair().await;
        far.write_all(&vec![1; received]).unwrap();
        let turns = Rc::new(Cell::new(0));
        let count = turns.clone();
        let other = spawn(async move {
            loop {
                count.set(count.get() + 1);
                time::yield_now().await;
            }
        });
        for _ in 0..received {
            near.recv(1).await.unwrap();
        }
        assert!(turns.get() >= 19, "others ran {} times", turns.get());
        drop(other);
    });
}

#[test]
fn a_spent_budget_comes_back_with_the_next_turn() {
    under(DriverKind::Epoll, async {
        let turns = Rc::new(Cell::new(0));
        let count = turns.clone();
        let other = spawn(async move {
            loop {
                count.set(count.get() + 1);
                time::yield_now().await;
            }
        });
        for _ in 0..10 * budget::OPS {
            time::sleep(std::time::Duration::ZERO).await;
        }
        // One for each time that it was used up, not one for each operation.
        assert!((9..=10).contains(&turns.get()), "others ran {} times", turns.get());
        drop(other);
    });
}
