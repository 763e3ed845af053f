//! What conet is meant to reach beside what it does, in one table.

use std::fmt::Write;

use super::measure::Case;
use super::samples::{Row, Samples, Spread};
use super::target::{Quantity, Target};
use crate::contender::Contender;

/// What was measured, all measures together.
#[derive(Default)]
pub(super) struct Summary {
    measured: Vec<(Vec<Case>, Samples)>,
}

/// A figure that was measured.
struct Line {
    value: String,
    /// What is held against the bound.
    figure: f64,
    ratio: String,
}

impl Summary {
    pub(super) fn add(&mut self, cases: Vec<Case>, samples: Samples) {
        self.measured.push((cases, samples));
    }

    /// The table. A line whose figure was not measured now stays as it is in `before`.
    pub(super) fn table(&self, command_line: &str, before: &str) -> String {
        let mut table = format!(
            "Written by `{command_line}`; lines of what it does not measure are of a command before.\n\n\
             | figure | conet | must be | value | ratio | |\n|---|---|---:|---:|---:|---|\n"
        );
        for target in Target::ALL {
            for &server in target.servers {
                let head = format!("| {target} | {} | {} |", server.label(), target.bound());
                let line = match self.line(target, server) {
                    Some(Line { value, figure, ratio }) => {
                        let met = if target.is_met(figure) { "met" } else { "missed" };
                        format!("{head} {value} | {ratio} | {met} |")
                    }
                    None => match before.lines().find(|line| line.starts_with(&head)) {
                        Some(line) => line.to_owned(),
                        None => format!("{head} – | – | not measured |"),
                    },
                };
                // Writing to a string cannot fail.
                let _ = writeln!(table, "{line}");
            }
        }
        table
    }

    fn line(&self, target: &Target, server: Contender) -> Option<Line> {
        self.measured.iter().find_map(|(cases, samples)| {
            let &case = cases.iter().find(|&&case| target.is_about(case))?;
            line(target, samples, Row::Server(server), case)
        })
    }
}

fn line(target: &Target, samples: &Samples, row: Row, case: Case) -> Option<Line> {
    let unit = target.measure.unit();
    let value = samples.spread(row, case, |figures| Some(figures.value))?;
    let against =
        |ratio: Spread, value: String| Line { value, figure: ratio.median, ratio: ratio.to_string() };
    Some(match target.quantity {
        Quantity::RateOf(other) => {
            let ratio = samples.ratio(row, Row::Server(other), case)?;
            against(ratio, format!("{:.0} {unit}", value.median))
        }
        Quantity::TailOf(other) => {
            let tail = samples.spread(row, case, |figures| Some(figures.latency?.p999_us))?;
            let ratio = samples.tail_ratio(row, Row::Server(other), case)?;
            against(ratio, format!("{:.0} µs", tail.median))
        }
        // A ratio is what is measured.
        Quantity::AtLeast => {
            let by_cpu = samples.spread(row, case, |figures| figures.by_cpu)?;
            against(value, format!("{:.2} by CPU", by_cpu.median))
        }
        Quantity::AtMost => alone(target, value, unit),
        Quantity::MicrosecondsEach => alone(target, value.map(|rate| 1e6 / rate), "µs"),
    })
}

/// A figure that stands beside nothing but its bound.
fn alone(target: &Target, Spread { median, min, max }: Spread, unit: &str) -> Line {
    let value = format!("{median:.1} ({min:.1} to {max:.1}) {unit}");
    Line { value, figure: median, ratio: format!("{:.2} of the bound", median / target.must) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::samples::Figures;

    fn spawning(rates: &[f64]) -> Summary {
        let mut samples = Samples::default();
        for (round, &value) in rates.iter().enumerate() {
            let figures = Figures { value, ..Figures::default() };
            samples.add(Row::Server(Contender::ConetGo), Case::Spawn, round, figures);
        }
        let mut summary = Summary::default();
        summary.add(vec![Case::Spawn], samples);
        summary
    }

    #[test]
    fn a_rate_becomes_microseconds_and_is_held_against_its_bound() {
        let head = "| `go` of a closure that returns at once | conet, one instance (`go`) | at most 2 µs |";
        let table = spawning(&[500_000.0, 1e6, 250_000.0]).table("conet-bench compare", "");
        let line = format!("{head} 2.0 (1.0 to 4.0) µs | 1.00 of the bound | met |\n");
        assert!(table.contains(&line), "{table}");
        let table = spawning(&[250_000.0]).table("", "");
        assert!(table.contains("4.0 (4.0 to 4.0) µs | 2.00 of the bound | missed |\n"), "{table}");
    }

    #[test]
    fn a_ratio_is_taken_within_a_round_and_what_is_not_measured_stays() {
        let case = Case::Echo { size: 64, connections: 64, depth: 1 };
        let mut samples = Samples::default();
        for (server, value) in [(Contender::ConetGo, 70.0), (Contender::Epoll, 100.0), (Contender::Go, 50.0)]
        {
            samples.add(Row::Server(server), case, 1, Figures { value, ..Figures::default() });
        }
        let mut summary = Summary::default();
        summary.add(vec![case], samples);
        let before = "| cold start | conet, one instance (`go`) | at most 120 ms | 99 ms | kept |";
        let table = summary.table("", before);
        for line in [
            "| echo, 64 B × 64, of raw epoll, Rust | conet, one instance (`go`) | at least 0.75 | 70 requests/s | \
             0.70 (0.70 to 0.70) | missed |\n",
            "| echo, 64 B × 64, of Go, net | conet, one instance (`go`) | at least 1 | 70 requests/s | \
             1.40 (1.40 to 1.40) | met |\n",
            "| echo, 64 B × 64, of tokio, current thread | conet, one instance (`go`) | at least 0.85 | – | – | not measured |\n",
            before,
        ] {
            assert!(table.contains(line), "{line} is not in\n{table}");
        }
    }
}
