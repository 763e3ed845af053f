//! The load generator: connections that send messages and check what comes back.
//!
//! A *closed loop* keeps a number of requests in flight on each connection and sends the next when one is
//! answered; it finds the highest rate. An *open loop* sends on a schedule, whatever the server does, and
//! counts each latency from the time the message was meant to be sent, so that a stall shows in every message
//! it delayed (no coordinated omission). Each thread is one epoll loop; a request costs it one send, one recv
//! and a share of a wait.

mod bulk;
mod connection;
mod generator;
mod idle;
mod pattern;
mod plan;
mod report;
mod schedule;
mod tally;

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use crate::affinity;
pub use bulk::bulk;
pub use connection::Peer;
use generator::Generator;
pub use idle::Idle;
use pattern::Pattern;
pub use plan::{Pace, Plan};
pub use report::{Latency, Report, ServerTime};
pub use tally::Errors;
use tally::{Outcome, Window};

/// Opens the connections, waits for an echo on each, then runs the load.
pub fn run(plan: &Plan) -> Result<Report> {
    plan.check()?;
    let pattern = Pattern::new();
    thread::scope(|scope| {
        let (ready_sender, ready) = mpsc::channel();
        let mut starts = Vec::new();
        let mut threads = Vec::new();
        for number in 0..plan.threads {
            let (start_sender, start) = mpsc::channel();
            let (ready_sender, pattern) = (ready_sender.clone(), &pattern);
            starts.push(start_sender);
            threads.push(scope.spawn(move || work(plan, number, pattern, &ready_sender, &start)));
        }
        drop(ready_sender);
        for _ in 0..plan.threads {
            ready.recv().map_err(|_| anyhow!("a load thread died"))??;
        }
        let window = Window::new(Instant::now() + plan.warm_up, plan.duration);
        for start in starts {
            start.send(window).map_err(|_| anyhow!("a load thread died"))?;
        }
        let join =
            |thread: thread::ScopedJoinHandle<_>| thread.join().map_err(|_| anyhow!("a load thread died"))?;
        let outcomes = threads.into_iter().map(join).collect::<Result<Vec<Option<Outcome>>>>()?;
        Ok(Report::new(plan, outcomes.into_iter().flatten()))
    })
}

/// One thread. Gives nothing when the others' connections could not be opened.
fn work(
    plan: &Plan,
    number: usize,
    pattern: &Pattern,
    ready: &mpsc::Sender<Result<()>>,
    start: &mpsc::Receiver<Window>,
) -> Result<Option<Outcome>> {
    let open = || {
        if !plan.cores.is_empty() {
            affinity::pin(&[plan.cores[number % plan.cores.len()]])?;
        }
        let mut generator = Generator::new(plan, number, pattern)?;
        generator.ramp().context("the connections could not be opened")?;
        Ok(generator)
    };
    let (generator, opened) = match open() {
        Ok(generator) => (Some(generator), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // The receiver is gone only when another thread has failed already.
    let _ = ready.send(opened);
    match (generator, start.recv()) {
        (Some(generator), Ok(window)) => generator.run(window).map(Some),
        _ => Ok(None),
    }
}
