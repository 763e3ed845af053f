//! A task that goes on for long, and what comes meanwhile.

use std::cell::Cell;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use conet_rt::{Hooks, WorkerConfig, block_on, is_alone, look_soon, spawn, time, unwatch, watch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::drivers::*;

/// Keeps what the worker gives.
#[derive(Default, Clone)]
struct Sockets(Arc<OnceLock<OwnedFd>>);

impl Hooks for Sockets {
    fn begins(&mut self, sockets: BorrowedFd<'_>) {
        self.0.set(sockets.try_clone_to_owned().unwrap()).unwrap();
    }
}

impl Sockets {
    /// As another thread would wait for it.
    fn tell_within(&self, seconds: i64) -> bool {
        let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
        poll(&mut [PollFd::new(self.0.get().unwrap(), PollFlags::IN)], Some(&timeout)).unwrap() == 1
    }
}

/// Runs the test on a worker of each kind that the machine has.
fn under_real_drivers<Fut: Future<Output = ()>>(test: impl Fn(Sockets) -> Fut) {
    for driver in real_drivers() {
        let sockets = Sockets::default();
        let hooks = Some(Box::new(sockets.clone()) as Box<dyn Hooks + Send>);
        let test = time::timeout(Duration::from_secs(120), test(sockets));
        assert!(block_on(WorkerConfig { hooks, ..config(driver) }, test).unwrap().is_ok(), "{driver:?}");
    }
}

#[test]
fn watched_sockets_tell_what_comes_while_a_task_goes_on() {
    under_real_drivers(|sockets| async move {
        for round in 0..3u8 {
            let (near, mut far) = std_pair().await;
            let received = Rc::new(Cell::new(false));
            let receives = received.clone();
            let receiving = spawn(async move {
                assert_eq!(&*near.recv(1).await.unwrap(), [round]);
                receives.set(true);
            });
            look().await;
            assert!(!is_alone());
            assert!(!watch(), "nothing has come");
            assert!(!sockets.tell_within(0), "nor does it tell so");
            far.write_all(&[round]).unwrap();
            assert!(sockets.tell_within(60), "what has come is told");
            unwatch();
            // Once for the look, once for the one that it wakes.
            look_soon();
            time::yield_now().await;
            time::yield_now().await;
            assert!(received.get(), "the look was at once");
            receiving.await.unwrap();
            assert!(is_alone());
        }
    });
}

#[test]
fn what_came_before_it_was_watched_is_told_too() {
    under_real_drivers(|sockets| async move {
        let (near, mut far) = std_pair().await;
        let receiving = spawn(async move { near.recv(1).await.unwrap().to_vec() });
        look().await;
        // Once there, it stays: this one waits for it on the other's behalf.
        assert!(!watch());
        far.write_all(b"a").unwrap();
        assert!(sockets.tell_within(60));
        unwatch();
        assert!(watch() || sockets.tell_within(0));
        unwatch();
        assert_eq!(receiving.await.unwrap(), b"a");
    });
}
