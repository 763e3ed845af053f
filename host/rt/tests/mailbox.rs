//! A model of the mailbox: loom tries every order in which its threads may run.

#[path = "../src/mailbox.rs"]
mod mailbox;

/// Loom's primitives in the place of std's.
mod sync {
    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};
}

use std::sync::atomic::{AtomicUsize, Ordering};

use loom::sync::{Arc, Notify};
use loom::thread;
use mailbox::{Mailbox, Sent};

/// A worker's mailbox and its wakeup.
struct Worker {
    mailbox: Mailbox<u32>,
    wakeup: Notify,
    /// Not of the model: only counted.
    wakeups: AtomicUsize,
}

impl Worker {
    fn new() -> Arc<Worker> {
        let (mailbox, wakeup) = (Mailbox::new(), Notify::new());
        Arc::new(Worker { mailbox, wakeup, wakeups: AtomicUsize::new(0) })
    }

    fn send(&self, item: u32) {
        if self.mailbox.send(item) == Ok(Sent::Wake) {
            self.wakeups.fetch_add(1, Ordering::Relaxed);
            self.wakeup.notify();
        }
    }

    /// Works as the run loop does, until this many have come; tells how often it slept.
    fn receive(&self, count: usize) -> (Vec<u32>, usize) {
        let (mut items, mut sleeps) = (Vec::new(), 0);
        loop {
            self.mailbox.drain(&mut items);
            if items.len() >= count {
                return (items, sleeps);
            }
            if self.mailbox.park() {
                sleeps += 1;
                // Were a wakeup lost, loom would report a deadlock.
                self.wakeup.wait();
                self.mailbox.unpark();
            }
        }
    }
}

/// Every order with up to three preemptions: more of them take minutes, and find nothing else.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

#[test]
fn no_item_and_no_wakeup_is_lost() {
    model(|| {
        let worker = Worker::new();
        let senders: Vec<_> = [1, 2]
            .into_iter()
            .map(|item| {
                let worker = worker.clone();
                thread::spawn(move || worker.send(item))
            })
            .collect();
        let (mut items, sleeps) = worker.receive(2);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        items.sort_unstable();
        assert_eq!(items, [1, 2]);
        assert!(worker.wakeups.load(Ordering::Relaxed) <= sleeps, "a wakeup for nothing");
    });
}

#[test]
fn items_of_one_sender_keep_their_order() {
    model(|| {
        let worker = Worker::new();
        let remote = worker.clone();
        let sender = thread::spawn(move || (0..3).for_each(|item| remote.send(item)));
        let (items, _) = worker.receive(3);
        sender.join().unwrap();
        assert_eq!(items, [0, 1, 2]);
    });
}

#[test]
fn an_item_is_drained_or_given_back() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let remote = mailbox.clone();
        let sender = thread::spawn(move || remote.send(7).is_ok());
        let left = mailbox.close();
        let sent = sender.join().unwrap();
        assert_eq!(left.len(), usize::from(sent));
        assert_eq!(mailbox.send(8), Err(8));
    });
}
