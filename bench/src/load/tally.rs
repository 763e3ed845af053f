//! What one thread counts: answers in the measured time, their latencies, errors.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cpu::{self, ProcessTime};

/// The measured time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

impl Window {
    pub(super) fn new(from: Instant, duration: Duration) -> Self {
        Self { from, to: from + duration }
    }

    fn contains(&self, time: Instant) -> bool {
        self.from <= time && time < self.to
    }
}

/// Connections lost and requests left unanswered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// Connections lost, by the reason.
    pub connections: BTreeMap<String, u64>,
    /// Requests without an answer when waiting for it was given up; the latency so far of those that were
    /// sent is counted.
    pub unanswered: u64,
}

impl Errors {
    /// Whether all went well.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.unanswered == 0
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (reason, count) in &other.connections {
            *self.connections.entry(reason.clone()).or_default() += count;
        }
        self.unanswered += other.unanswered;
    }
}

/// Counts as answers come.
pub(super) struct Tally {
    window: Window,
    server_pid: Option<u32>,
    at_start: Option<Usage>,
    /// Time spun through within the measured time.
    spun: Duration,
    outcome: Outcome,
}

/// What a thread, and the server if it is the one that asks, have used so far.
struct Usage {
    thread: Duration,
    thread_waited: Option<Duration>,
    server: Option<ProcessTime>,
    server_waited: Option<Duration>,
}

/// What a thread has counted.
pub(super) struct Outcome {
    /// Requests answered within the measured time.
    pub(super) answered: u64,
    /// Latencies in nanoseconds of the requests that were meant to start within it.
    pub(super) latencies: Histogram<u64>,
    pub(super) errors: Errors,
    /// The longest a message of an open loop was sent after its time, by the generator's fault.
    pub(super) late_max: Duration,
    /// CPU time of this thread within the measured time, without the waits that it spun through.
    pub(super) thread_time: Duration,
    /// CPU time of the server within it.
    pub(super) server_time: Option<ProcessTime>,
    /// The longer of the times that this thread and the server were kept from running within it.
    pub(super) waited: Option<Duration>,
    /// How much of the measured time was used.
    pub(super) measured: Duration,
}

impl Tally {
    pub(super) fn new(window: Window, server_pid: Option<u32>) -> Self {
        let outcome = Outcome {
            answered: 0,
            latencies: Histogram::new(3).expect("three digits are within the histogram's range"),
            errors: Errors::default(),
            late_max: Duration::ZERO,
            thread_time: Duration::ZERO,
            server_time: None,
            waited: None,
            measured: Duration::ZERO,
        };
        Self { window, server_pid, at_start: None, spun: Duration::ZERO, outcome }
    }

    /// Notes CPU times once the measured time has begun; gives what is left of it.
    pub(super) fn tick(&mut self, now: Instant) -> Result<Duration> {
        if self.at_start.is_none() && now >= self.window.from {
            self.at_start = Some(Usage::now(self.server_pid)?);
        }
        Ok(self.window.to.saturating_duration_since(now))
    }

    /// The measured time is over.
    pub(super) fn close(&mut self) -> Result<()> {
        self.outcome.measured = Instant::now().min(self.window.to) - self.window.from;
        let Some(before) = &self.at_start else { return Ok(()) };
        let after = Usage::now(self.server_pid)?;
        self.outcome.thread_time = after.thread.saturating_sub(before.thread).saturating_sub(self.spun);
        self.outcome.server_time = after.server.zip(before.server).map(|(after, before)| after.since(before));
        let thread = since(after.thread_waited, before.thread_waited);
        self.outcome.waited = thread.max(since(after.server_waited, before.server_waited));
        Ok(())
    }

    /// The thread has asked for answers, from one time to the other, and there were none.
    pub(super) fn spun(&mut self, from: Instant, to: Instant) {
        if self.window.contains(from) {
            self.spun += to - from;
        }
    }

    /// A request meant for `start` was sent at `now`.
    pub(super) fn sent(&mut self, start: Instant, now: Instant) {
        if self.window.contains(start) {
            self.outcome.late_max = self.outcome.late_max.max(now.saturating_duration_since(start));
        }
    }

    /// A request meant for `start` was answered at `now`.
    pub(super) fn answered(&mut self, start: Instant, now: Instant) {
        if self.window.contains(now) {
            self.outcome.answered += 1;
        }
        self.record(start, now);
    }

    /// A request meant for `start` had no answer by `now`, and will not be waited for.
    pub(super) fn unanswered(&mut self, start: Instant, now: Instant) {
        self.outcome.errors.unanswered += 1;
        self.record(start, now);
    }

    /// So many requests of those that were to be sent have not been, for lack of time or of connections.
    pub(super) fn never_sent(&mut self, requests: u64) {
        self.outcome.errors.unanswered += requests;
    }

    /// A connection was lost.
    pub(super) fn lost(&mut self, reason: String) {
        *self.outcome.errors.connections.entry(reason).or_default() += 1;
    }

    pub(super) fn finish(self) -> Outcome {
        self.outcome
    }

    fn record(&mut self, start: Instant, now: Instant) {
        if self.window.contains(start) {
            let latency = now.saturating_duration_since(start).as_nanos() as u64;
            self.outcome.latencies += latency;
        }
    }
}

impl Usage {
    fn now(server_pid: Option<u32>) -> Result<Self> {
        Ok(Self {
            thread: cpu::thread_time(),
            thread_waited: cpu::thread_waited(),
            server: server_pid.map(ProcessTime::of).transpose()?,
            server_waited: server_pid.and_then(cpu::process_waited),
        })
    }
}

fn since(after: Option<Duration>, before: Option<Duration>) -> Option<Duration> {
    Some(after?.saturating_sub(before?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A rate counts answers by when they came, a latency by when its request was meant to start: one that
    /// began in the measured time and stalled past its end must not go missing.
    #[test]
    fn rate_goes_by_the_answer_and_latency_by_the_start() {
        let from = Instant::now();
        let mut tally = Tally::new(Window::new(from, 100 * MS), None);
        tally.answered(from - MS, from + MS);
        tally.answered(from + 10 * MS, from + 20 * MS);
        tally.answered(from + 99 * MS, from + 500 * MS);
        tally.unanswered(from + 50 * MS, from + 1050 * MS);
        let outcome = tally.finish();
        assert_eq!(outcome.answered, 2);
        assert_eq!(outcome.latencies.len(), 3);
        assert_eq!(outcome.errors.unanswered, 1);
        let max = Duration::from_nanos(outcome.latencies.max());
        assert!(max.abs_diff(1000 * MS) < MS, "{max:?}");
    }

    #[test]
    fn lateness_is_the_worst_one() {
        let from = Instant::now();
        let mut tally = Tally::new(Window::new(from, 100 * MS), None);
        tally.sent(from, from + 2 * MS);
        tally.sent(from + 5 * MS, from + 6 * MS);
        tally.sent(from - MS, from + 9 * MS);
        assert_eq!(tally.finish().late_max, 2 * MS);
    }
}
