//! Everything measured, and what follows from it.

use std::fmt;

use super::measure::Case;
use crate::contender::Contender;
use crate::load::{Latency, Report};

/// What a line of a table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    Server(Contender),
    /// The load generator without a server.
    Ceiling,
}

/// What one run found.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// In the unit of its measure.
    pub(super) value: f64,
    pub(super) latency: Option<Latency>,
    /// CPU time of the server, microseconds per request.
    pub(super) server_us: Option<f64>,
    /// Where the value is a ratio of rates: that of CPU times, the other's for a request by the server's own.
    pub(super) by_cpu: Option<f64>,
    /// Shares of the time, 0 to 1.
    pub(super) generator_busy: Option<f64>,
    pub(super) disturbed: Option<f64>,
    pub(super) errors: u64,
}

#[derive(Default)]
pub(super) struct Samples {
    samples: Vec<Sample>,
    /// Runs that came to nothing, and why.
    failures: Vec<(Row, Case, String)>,
}

struct Sample {
    row: Row,
    case: Case,
    round: usize,
    figures: Figures,
}

/// Median and extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Row {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Server(contender) => contender.label(),
            Self::Ceiling => "*no server: the load generator's ceiling*",
        }
    }
}

impl Samples {
    pub(super) fn add(&mut self, row: Row, case: Case, round: usize, figures: Figures) {
        self.samples.push(Sample { row, case, round, figures });
    }

    /// Notes that a run came to nothing. Once for each case of a server is enough.
    pub(super) fn add_failure(&mut self, row: Row, case: Case, reason: String) {
        if !self.failures.iter().any(|failure| (failure.0, failure.1) == (row, case)) {
            self.failures.push((row, case, reason));
        }
    }

    pub(super) fn failures(&self) -> &[(Row, Case, String)] {
        &self.failures
    }

    /// Whether all runs came to something, without errors.
    pub(super) fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.samples.iter().all(|sample| sample.figures.errors == 0)
    }

    pub(super) fn errors(&self, row: Row, case: Case) -> u64 {
        self.of(row, case).map(|sample| sample.figures.errors).sum()
    }

    pub(super) fn spread(
        &self,
        row: Row,
        case: Case,
        figure: impl Fn(&Figures) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.of(row, case).filter_map(|sample| figure(&sample.figures)).collect())
    }

    /// Value by value of `reference` in the same round.
    pub(super) fn ratio(&self, row: Row, reference: Row, case: Case) -> Option<Spread> {
        self.beside(row, reference, case, |figures, beside| Some(figures.value / beside.value))
    }

    /// The reference's CPU time for a request by the row's own: the ratio of rates, if the servers were all
    /// that limits them. Near the generator's ceiling this is the one to look at.
    pub(super) fn cpu_ratio(&self, row: Row, reference: Row, case: Case) -> Option<Spread> {
        self.beside(row, reference, case, |figures, beside| Some(beside.server_us? / figures.server_us?))
    }

    /// Its p99.9 by the reference's: a latency, so more is worse.
    pub(super) fn tail_ratio(&self, row: Row, reference: Row, case: Case) -> Option<Spread> {
        self.beside(row, reference, case, |figures, beside| {
            Some(figures.latency?.p999_us / beside.latency?.p999_us)
        })
    }

    /// A comparison of `row` with `reference` in each round.
    fn beside(
        &self,
        row: Row,
        reference: Row,
        case: Case,
        compare: impl Fn(&Figures, &Figures) -> Option<f64>,
    ) -> Option<Spread> {
        let ratio = |sample: &Sample| {
            let beside = self.of(reference, case).find(|beside| beside.round == sample.round)?;
            compare(&sample.figures, &beside.figures)
        };
        Spread::of(self.of(row, case).filter_map(ratio).collect())
    }

    fn of(&self, row: Row, case: Case) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.row == row && sample.case == case)
    }
}

impl From<&Report> for Figures {
    fn from(report: &Report) -> Self {
        Self {
            value: report.requests_per_second,
            latency: Some(report.latency),
            server_us: report.server.map(|time| time.total_us()),
            by_cpu: None,
            generator_busy: Some(report.generator_busy),
            disturbed: report.disturbed,
            errors: report.errors.unanswered + report.errors.connections.values().sum::<u64>(),
        }
    }
}

impl Spread {
    /// Of what follows from each value, which must rise or fall with it.
    pub(super) fn map(self, of: impl Fn(f64) -> f64) -> Self {
        let [min, max] = [self.min, self.max].map(&of);
        Self { median: of(self.median), min: min.min(max), max: min.max(max) }
    }

    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
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

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case = Case::Connect { connections: 1 };

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(vec![f64::NAN, f64::INFINITY]), None);
    }

    /// A machine that doubles its speed between rounds must not show in the ratio.
    #[test]
    fn ratios_are_taken_within_a_round() {
        let (epoll, tokio) = (Row::Server(Contender::Epoll), Row::Server(Contender::Tokio));
        let mut samples = Samples::default();
        for (round, speed) in [(1, 100.0), (2, 200.0), (3, 400.0)] {
            let figures = |value: f64| Figures { value, server_us: Some(1e6 / value), ..Figures::default() };
            samples.add(epoll, CASE, round, figures(speed));
            samples.add(tokio, CASE, round, figures(speed * 0.75));
        }
        let same = Some(Spread { median: 0.75, min: 0.75, max: 0.75 });
        assert_eq!(samples.ratio(tokio, epoll, CASE), same);
        assert_eq!(samples.cpu_ratio(tokio, epoll, CASE), same);
        assert_eq!(samples.ratio(tokio, Row::Ceiling, CASE), None);
    }

    #[test]
    fn errors_and_failures_make_the_result_unclean() {
        let row = Row::Server(Contender::Tokio);
        let mut samples = Samples::default();
        samples.add(row, CASE, 1, Figures::default());
        assert!(samples.is_clean());
        samples.add(row, CASE, 2, Figures { errors: 3, ..Figures::default() });
        assert!(!samples.is_clean() && samples.errors(row, CASE) == 3);
        let mut samples = Samples::default();
        samples.add_failure(row, CASE, "it does not start".into());
        samples.add_failure(row, CASE, "it does not start, again".into());
        assert!(!samples.is_clean() && samples.failures().len() == 1);
    }
}
