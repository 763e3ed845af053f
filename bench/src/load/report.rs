//! What a load run found.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::tally::{Errors, Outcome};
use super::{Pace, Plan};
use crate::cpu::ProcessTime;

/// The result of a run. Serialized, it is the line that `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Connections.
    pub connections: usize,
    /// Bytes in a message.
    pub size: usize,
    /// Requests in flight on each connection, in a closed loop.
    pub depth: Option<usize>,
    /// Messages meant to be sent, or connections to be made, per second, in an open loop.
    pub rate: Option<u64>,
    /// The measured time in seconds; with a number of requests, what they took.
    pub seconds: f64,
    /// Requests answered within the measured time.
    pub requests: u64,
    /// The same per second.
    pub requests_per_second: f64,
    /// Payload echoed, 10^6 bytes per second in each direction.
    pub megabytes_per_second: f64,
    /// From the intended start to the last byte of the answer.
    pub latency: Latency,
    /// What went wrong.
    pub errors: Errors,
    /// Share of the generator's threads' time on a CPU, 0 to 1. Near 1 the generator, not the server, is the
    /// limit.
    pub generator_busy: f64,
    /// The longest an open loop was late in sending, in microseconds; it is part of the latencies.
    pub late_max_us: f64,
    /// Share of the time that the generator, or the server if its process is known, was ready to run while
    /// something else had its core, 0 to 1: the machine's noise. Over a few hundredths, measure again on a
    /// quieter machine.
    pub disturbed: Option<f64>,
    /// What the generator reached without a server, requests per second, when that was measured.
    pub ceiling: Option<f64>,
    /// What the server spent on a request, when its process is known.
    pub server: Option<ServerTime>,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Median.
    pub p50_us: f64,
    /// 99 of 100 are no longer.
    pub p99_us: f64,
    /// 999 of 1,000 are no longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// CPU time of the server, microseconds per request.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ServerTime {
    /// In its own code.
    pub user_us: f64,
    /// In the kernel.
    pub system_us: f64,
}

impl ServerTime {
    /// All of it.
    pub fn total_us(self) -> f64 {
        self.user_us + self.system_us
    }
}

impl Report {
    pub(super) fn new(plan: &Plan, outcomes: impl Iterator<Item = Outcome>) -> Self {
        let mut sum = Sum::new();
        outcomes.for_each(|outcome| sum.add(&outcome));
        // With a number of requests the load ends when they are answered.
        let seconds = plan.requests.map_or(plan.duration, |_| sum.measured).as_secs_f64();
        let requests_per_second = sum.answered as f64 / seconds;
        let (depth, rate) = match plan.pace {
            Pace::Closed { depth } => (Some(depth), None),
            Pace::Open { rate } | Pace::Arrive { rate } => (None, Some(rate)),
            Pace::Connect => (None, None),
        };
        Self {
            connections: plan.connections,
            size: plan.size,
            depth,
            rate,
            seconds,
            requests: sum.answered,
            requests_per_second,
            megabytes_per_second: requests_per_second * plan.size as f64 / 1e6,
            latency: Latency::of(&sum.latencies),
            generator_busy: sum.thread_time.as_secs_f64() / seconds / plan.threads as f64,
            late_max_us: micros(sum.late_max),
            disturbed: sum.waited.map(|waited| waited.as_secs_f64() / seconds),
            ceiling: None,
            server: sum.server_time.filter(|_| sum.answered > 0).map(|time| ServerTime {
                user_us: micros(time.user) / sum.answered as f64,
                system_us: micros(time.system) / sum.answered as f64,
            }),
            errors: sum.errors,
        }
    }
}

/// All threads together.
struct Sum {
    answered: u64,
    latencies: Histogram<u64>,
    errors: Errors,
    late_max: Duration,
    thread_time: Duration,
    server_time: Option<ProcessTime>,
    waited: Option<Duration>,
    measured: Duration,
}

impl Sum {
    fn new() -> Self {
        Self {
            answered: 0,
            latencies: Histogram::new(3).expect("three digits are within the histogram's range"),
            errors: Errors::default(),
            late_max: Duration::ZERO,
            thread_time: Duration::ZERO,
            server_time: None,
            waited: None,
            measured: Duration::ZERO,
        }
    }

    fn add(&mut self, outcome: &Outcome) {
        self.answered += outcome.answered;
        self.latencies += &outcome.latencies;
        self.errors.add(&outcome.errors);
        self.late_max = self.late_max.max(outcome.late_max);
        self.thread_time += outcome.thread_time;
        self.waited = self.waited.max(outcome.waited);
        self.measured = self.measured.max(outcome.measured);
        self.server_time = self.server_time.or(outcome.server_time);
    }
}

impl Latency {
    fn of(latencies: &Histogram<u64>) -> Self {
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999), max_us: at(1.0) }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50_us, p99_us, p999_us, max_us } = self.latency;
        writeln!(
            f,
            "requests   {:.0}/s, {:.1} MB/s ({} in {:.1} s, {} connections, {} bytes)",
            self.requests_per_second,
            self.megabytes_per_second,
            self.requests,
            self.seconds,
            self.connections,
            self.size
        )?;
        writeln!(
            f,
            "latency    p50 {p50_us:.0} µs, p99 {p99_us:.0} µs, p99.9 {p999_us:.0} µs, max {max_us:.0} µs"
        )?;
        write!(f, "generator  busy {:.0} %", self.generator_busy * 100.0)?;
        if let Some(ceiling) = self.ceiling {
            write!(f, ", its ceiling {ceiling:.0}/s")?;
        }
        if self.rate.is_some() {
            write!(f, ", at most {:.0} µs late", self.late_max_us)?;
        }
        if let Some(disturbed) = self.disturbed {
            write!(f, ", disturbed {:.0} % of the time", disturbed * 100.0)?;
        }
        writeln!(f)?;
        if let Some(ServerTime { user_us, system_us }) = self.server {
            writeln!(f, "server     {user_us:.2} µs user + {system_us:.2} µs system per request")?;
        }
        if self.errors.is_empty() {
            return write!(f, "errors     none");
        }
        write!(f, "errors     {} requests unanswered", self.errors.unanswered)?;
        for (reason, count) in &self.errors.connections {
            write!(f, "; {count} connections lost: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_to_three_digits_and_the_maximum_is_kept() {
        let mut latencies = Histogram::new(3).expect("three digits are allowed");
        for microseconds in 1..=1000u64 {
            latencies += microseconds * 1000;
        }
        latencies += 5_000_000_000;
        let latency = Latency::of(&latencies);
        let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.002;
        assert!(near(latency.p50_us, 501.0), "{latency:?}");
        assert!(near(latency.p99_us, 991.0), "{latency:?}");
        assert!(near(latency.p999_us, 1000.0), "{latency:?}");
        assert!(near(latency.max_us, 5e6), "{latency:?}");
    }
}
