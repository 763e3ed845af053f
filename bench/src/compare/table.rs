//! The result in Markdown: medians over the rounds, ratios taken within each.

use std::fmt;
use std::fs;

use super::Comparison;
use crate::contender::Contender;
use crate::load::Report;

/// What a line of the table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    Server(Contender),
    /// The load generator without a server.
    Ceiling,
}

/// Everything measured.
pub(super) struct Table<'a> {
    comparison: &'a Comparison,
    command_line: &'a str,
    samples: Vec<Sample>,
    /// KiB per idle connection.
    idle: Vec<(Contender, f64)>,
}

struct Sample {
    row: Row,
    connections: usize,
    round: usize,
    report: Report,
}

/// Median and extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl<'a> Table<'a> {
    pub(super) fn new(comparison: &'a Comparison, command_line: &'a str) -> Self {
        Self { comparison, command_line, samples: Vec::new(), idle: Vec::new() }
    }

    pub(super) fn add(&mut self, row: Row, connections: usize, round: usize, report: Report) {
        self.samples.push(Sample { row, connections, round, report });
    }

    pub(super) fn add_idle(&mut self, contender: Contender, kib: f64) {
        self.idle.push((contender, kib));
    }

    /// Whether no run had an error.
    pub(super) fn is_clean(&self) -> bool {
        self.samples.iter().all(|sample| sample.report.errors.is_empty())
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        self.comparison.servers.iter().map(|&contender| Row::Server(contender)).chain([Row::Ceiling])
    }

    fn samples(&self, row: Row, connections: usize) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.row == row && sample.connections == connections)
    }

    fn spread(&self, row: Row, connections: usize, value: impl Fn(&Report) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples(row, connections).filter_map(|sample| value(&sample.report)).collect())
    }

    /// The rate by the rate of `reference` in the same round.
    fn ratio(&self, row: Row, reference: Row, connections: usize) -> Option<Spread> {
        self.beside(row, reference, connections, |report, beside| {
            Some(report.requests_per_second / beside.requests_per_second)
        })
    }

    /// The reference's CPU time for a request by the row's own: the ratio of rates, if the servers were all that limits
    /// them. Near the generator's ceiling this is the one to look at.
    fn cpu_ratio(&self, row: Row, reference: Row, connections: usize) -> Option<Spread> {
        self.beside(row, reference, connections, |report, beside| {
            Some(beside.server?.total_us() / report.server?.total_us())
        })
    }

    /// A comparison of `row` with `reference` in each round.
    fn beside(
        &self,
        row: Row,
        reference: Row,
        connections: usize,
        compare: impl Fn(&Report, &Report) -> Option<f64>,
    ) -> Option<Spread> {
        let ratio = |sample: &Sample| {
            let beside = self.samples(reference, connections).find(|beside| beside.round == sample.round)?;
            compare(&sample.report, &beside.report)
        };
        Spread::of(self.samples(row, connections).filter_map(ratio).collect())
    }

    fn write_row(&self, f: &mut fmt::Formatter<'_>, row: Row, connections: usize) -> fmt::Result {
        let median = |value: &dyn Fn(&Report) -> Option<f64>, digits: usize| {
            let spread = self.spread(row, connections, value);
            spread.map_or("–".into(), |spread| format!("{:.digits$}", spread.median))
        };
        let label = match row {
            Row::Server(contender) => contender.label(),
            Row::Ceiling => "*no server: the load generator's ceiling*",
        };
        let spread = |spread: Option<Spread>| spread.map_or("–".into(), |spread| spread.to_string());
        let epoll = Row::Server(Contender::Epoll);
        let errors: u64 = self
            .samples(row, connections)
            .map(|sample| &sample.report.errors)
            .map(|errors| errors.unanswered + errors.connections.values().sum::<u64>())
            .sum();
        writeln!(
            f,
            "| {connections} | {label} | {} | {} | {} | {} | {} | {} | {} | {} | {errors} |",
            median(&|report| Some(report.requests_per_second), 0),
            spread(self.ratio(row, epoll, connections)),
            spread(self.cpu_ratio(row, epoll, connections)),
            median(&|report| Some(report.latency.p50_us), 0),
            median(&|report| Some(report.latency.p99_us), 0),
            median(&|report| report.server.map(|time| time.total_us()), 2),
            median(&|report| Some(report.generator_busy * 100.0), 0),
            median(&|report| report.disturbed.map(|disturbed| disturbed * 100.0), 0),
        )
    }

    /// How the Rust loop stands to the same loop in C, when both ran.
    fn write_honesty(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rust, c) = (Row::Server(Contender::Epoll), Row::Server(Contender::EpollC));
        for &connections in &self.comparison.connections {
            let (rate, cpu) = (self.ratio(rust, c, connections), self.cpu_ratio(rust, c, connections));
            if let (Some(rate), Some(cpu)) = (rate, cpu) {
                writeln!(
                    f,
                    "\nAt {connections} connections the raw epoll loop in Rust reaches {rate} of the rate of the same loop \
                     in C; by CPU time, {cpu}."
                )?;
            }
        }
        Ok(())
    }

    fn write_idle(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.idle.is_empty() {
            return Ok(());
        }
        let connections = self.comparison.idle_connections;
        writeln!(f, "\n| server | KiB per idle connection ({connections} open) |\n|---|---:|")?;
        self.idle.iter().try_for_each(|(contender, kib)| writeln!(f, "| {} | {kib:.1} |", contender.label()))
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { rounds, server_core, load_core, duration, size, depth, .. } = self.comparison;
        writeln!(f, "`{}`\n", self.command_line)?;
        writeln!(
            f,
            "{size}-byte echo, {depth} in flight on each connection, server on core {server_core}, load on core \
             {load_core}{}; {rounds} rounds of {} s in turn, after {} s of warm-up: medians, and the ratio within each \
             round as median (least to greatest). {}.\n",
            if self.comparison.spin { ", never asleep" } else { "" },
            duration.as_secs_f64(),
            self.comparison.warm_up.as_secs_f64(),
            machine()
        )?;
        writeln!(
            f,
            "| connections | server | requests/s | of raw epoll | of raw epoll, by CPU | p50 µs | p99 µs | \
             server CPU µs/request | generator busy % | disturbed % | errors |\n\
             |---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        )?;
        for &connections in &self.comparison.connections {
            self.rows().try_for_each(|row| self.write_row(f, row, connections))?;
        }
        self.write_honesty(f)?;
        self.write_idle(f)
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, min, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.min, self.max)
    }
}

/// Processor and kernel, as far as the system tells.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, {}, Linux {}", model.map_or("unknown processor", |(_, name)| name), kernel.trim())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contender::Build;
    use crate::load::{Errors, Latency, ServerTime};

    fn report(requests_per_second: f64) -> Report {
        Report {
            connections: 64,
            size: 64,
            depth: Some(1),
            rate: None,
            seconds: 1.0,
            requests: 0,
            requests_per_second,
            megabytes_per_second: 0.0,
            latency: Latency { p50_us: 0.0, p99_us: 0.0, p999_us: 0.0, max_us: 0.0 },
            errors: Errors::default(),
            generator_busy: 0.5,
            late_max_us: 0.0,
            disturbed: Some(0.25),
            ceiling: None,
            server: Some(ServerTime { user_us: 0.0, system_us: 1e6 / requests_per_second }),
        }
    }

    fn comparison() -> Comparison {
        Comparison {
            servers: vec![Contender::Epoll, Contender::Tokio],
            rounds: 3,
            server_core: 0,
            load_core: 1,
            spin: true,
            connections: vec![64],
            duration: Duration::from_secs(1),
            warm_up: Duration::ZERO,
            size: 64,
            depth: 1,
            idle_connections: 0,
            build: Build::Never,
            markdown: None,
        }
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }

    /// A machine that doubles its speed between rounds must not show in the ratio.
    #[test]
    fn ratios_are_taken_within_a_round() {
        let comparison = comparison();
        let mut table = Table::new(&comparison, "conet-bench compare");
        for (round, speed) in [(1, 100.0), (2, 200.0), (3, 400.0)] {
            table.add(Row::Server(Contender::Epoll), 64, round, report(speed));
            table.add(Row::Server(Contender::Tokio), 64, round, report(speed * 0.8));
        }
        let text = table.to_string();
        assert!(
            text.contains("| 64 | tokio, current thread | 160 | 0.80 (0.80 to 0.80) | 0.80 (0.80 to 0.80) |"),
            "{text}"
        );
    }

    #[test]
    fn errors_are_shown_and_make_the_result_unclean() {
        let comparison = comparison();
        let mut table = Table::new(&comparison, "conet-bench compare");
        assert!(table.is_clean());
        let mut failed = report(1.0);
        failed.errors.unanswered = 2;
        failed.errors.connections.insert("wrong bytes".into(), 1);
        table.add(Row::Server(Contender::Tokio), 64, 1, failed);
        assert!(!table.is_clean());
        assert!(table.to_string().contains("| 50 | 25 | 3 |"), "{table}");
    }
}
