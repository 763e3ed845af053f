//! A measure's figures in Markdown: medians over the rounds, ratios taken within each.

use std::fmt;
use std::fs;

use super::Comparison;
use super::measure::{Case, Measure};
use super::samples::{Figures, Row, Samples, Spread};
use crate::contender::Contender;

pub(super) struct Table<'a> {
    pub(super) comparison: &'a Comparison,
    pub(super) command_line: &'a str,
    /// Servers that did not take part, and why.
    pub(super) left_out: &'a [(Contender, String)],
    pub(super) measure: Measure,
    pub(super) cases: &'a [Case],
    pub(super) samples: &'a Samples,
}

impl Table<'_> {
    fn rows(&self, case: Case) -> impl Iterator<Item = Row> {
        let servers = self.servers().filter(move |&server| case.applies_to(server)).map(Row::Server);
        servers.chain(case.has_ceiling().then_some(Row::Ceiling))
    }

    fn servers(&self) -> impl Iterator<Item = Contender> {
        self.comparison.servers.iter().copied()
    }

    fn write_conditions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { rounds, server_core, load_core, duration, warm_up, .. } = self.comparison;
        writeln!(f, "`{}`\n", self.command_line)?;
        write!(f, "{} Server on core {server_core}, load on core {load_core}", self.measure.explanation())?;
        if self.measure.is_load() {
            let sleep = if self.comparison.spin { "never asleep" } else { "asleep while it waits" };
            write!(f, ", {sleep}, {} s after {} s", duration.as_secs_f64(), warm_up.as_secs_f64())?;
        }
        writeln!(f, "; medians of {rounds} rounds in turn (least to greatest). {}.\n", machine())?;
        let missed = |server| self.cases.iter().any(|case| case.applies_to(server));
        for (server, reason) in self.left_out.iter().filter(|(server, _)| missed(*server)) {
            writeln!(f, "Left out: {}: {reason}.\n", server.label())?;
        }
        for (row, case, reason) in self.samples.failures() {
            writeln!(f, "Failed: {}, {case}: {}\n", row.label(), reason.replace('\n', " "))?;
        }
        Ok(())
    }

    /// conet beside each of the others.
    fn write_ratios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (conet, others): (Vec<_>, Vec<_>) = self.servers().partition(|server| server.is_conet());
        if conet.is_empty() || others.is_empty() || self.cases.iter().any(|case| !case.applies_to(others[0]))
        {
            return Ok(());
        }
        writeln!(f, "conet as a part of each other server's {}:\n", self.measure.unit())?;
        self.write_beside(f, &conet, &others, Samples::ratio)?;
        writeln!(f, "conet's p99.9 as a multiple of each other server's:\n")?;
        self.write_beside(f, &conet, &others, Samples::tail_ratio)
    }

    fn write_beside(
        &self,
        f: &mut fmt::Formatter<'_>,
        conet: &[Contender],
        others: &[Contender],
        compare: impl Fn(&Samples, Row, Row, Case) -> Option<Spread>,
    ) -> fmt::Result {
        write!(f, "| load | conet |")?;
        others.iter().try_for_each(|other| write!(f, " {} |", other.label()))?;
        writeln!(f, "\n|---|---|{}", "---:|".repeat(others.len()))?;
        for &case in self.cases {
            for &server in conet {
                write!(f, "| {case} | {} |", server.label())?;
                for &other in others {
                    let ratio = compare(self.samples, Row::Server(server), Row::Server(other), case);
                    write!(f, " {} |", or_dash(ratio))?;
                }
                writeln!(f)?;
            }
        }
        writeln!(f)
    }

    fn write_rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| load | server | {} | of raw epoll | of raw epoll, by CPU | p50 µs | p99 µs | p99.9 µs | server CPU \
             µs/request | generator busy % | disturbed % | errors |\n\
             |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            self.measure.unit()
        )?;
        for &case in self.cases {
            self.rows(case).try_for_each(|row| self.write_rate(f, row, case))?;
        }
        Ok(())
    }

    fn write_rate(&self, f: &mut fmt::Formatter<'_>, row: Row, case: Case) -> fmt::Result {
        let epoll = Row::Server(Contender::Epoll);
        let median = |figure: &dyn Fn(&Figures) -> Option<f64>, digits: usize| {
            let spread = self.samples.spread(row, case, figure);
            spread.map_or("–".into(), |spread| format!("{:.digits$}", spread.median))
        };
        writeln!(
            f,
            "| {case} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.label(),
            median(&|figures| Some(figures.value), 0),
            or_dash(self.samples.ratio(row, epoll, case)),
            or_dash(self.samples.cpu_ratio(row, epoll, case)),
            median(&|figures| Some(figures.latency?.p50_us), 0),
            median(&|figures| Some(figures.latency?.p99_us), 0),
            median(&|figures| Some(figures.latency?.p999_us), 0),
            median(&|figures| figures.server_us, 2),
            median(&|figures| Some(figures.generator_busy? * 100.0), 0),
            median(&|figures| Some(figures.disturbed? * 100.0), 0),
            self.samples.errors(row, case)
        )
    }

    fn write_values(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by_cpu, line) = if self.measure.is_paired() { (" by CPU |", "---:|") } else { ("", "") };
        writeln!(f, "| | server | {} |{by_cpu}\n|---|---|---:|{line}", self.measure.unit())?;
        for &case in self.cases {
            for row in self.rows(case) {
                let value = match self.samples.spread(row, case, |figures| Some(figures.value)) {
                    Some(Spread { median, min, max }) => {
                        let digits = if max < 10.0 { 2 } else { usize::from(max < 1000.0) };
                        format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
                    }
                    None => "–".into(),
                };
                write!(f, "| {case} | {} | {value} |", row.label())?;
                if self.measure.is_paired() {
                    write!(f, " {} |", or_dash(self.samples.spread(row, case, |figures| figures.by_cpu)))?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_conditions(f)?;
        if !self.measure.is_load() {
            return self.write_values(f);
        }
        self.write_ratios(f)?;
        self.write_rates(f)
    }
}

fn or_dash(spread: Option<Spread>) -> String {
    spread.map_or("–".into(), |spread| spread.to_string())
}

/// Processor and kernel, as far as the system tells.
/// What this ran on.
pub(crate) fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, {}, Linux {}", model.map_or("unknown processor", |(_, name)| name), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case = Case::Echo { size: 64, connections: 8, depth: 1 };

    #[test]
    fn conet_stands_beside_each_other_server_and_each_server_beside_raw_epoll() {
        let servers = vec![Contender::Epoll, Contender::Tokio, Contender::ConetGo];
        let comparison = Comparison { servers, ..Comparison::default() };
        let mut samples = Samples::default();
        for (round, speed) in [(1, 1.0), (2, 4.0)] {
            for (&server, value) in comparison.servers.iter().zip([200.0, 100.0, 50.0]) {
                let figures = Figures { value: value * speed, errors: 2, ..Figures::default() };
                samples.add(Row::Server(server), CASE, round, figures);
            }
        }
        let left_out = [(Contender::Go, "no Go".to_owned())];
        let table = Table {
            comparison: &comparison,
            command_line: "conet-bench compare",
            left_out: &left_out,
            measure: Measure::Echo,
            cases: &[CASE],
            samples: &samples,
        };
        let text = table.to_string();
        for line in [
            "`conet-bench compare`\n",
            "Left out: Go, net: no Go.\n",
            "| 64 B × 8 | conet, one instance (`go`) | 0.25 (0.25 to 0.25) | 0.50 (0.50 to 0.50) |\n",
            "| 64 B × 8 | tokio, current thread | 250 | 0.50 (0.50 to 0.50) | – |",
            "| – | – | 4 |\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn pairs_are_shown_by_rate_and_by_cpu() {
        let case = Case::Preemption { connections: 64 };
        let comparison = Comparison { servers: vec![Contender::ConetGo], ..Comparison::default() };
        let mut samples = Samples::default();
        for (value, by_cpu) in [(0.9, 0.98), (1.1, 1.0), (1.0, 0.99)] {
            let figures = Figures { value, by_cpu: Some(by_cpu), ..Figures::default() };
            samples.add(Row::Server(Contender::ConetGo), case, 1, figures);
        }
        let table = Table {
            comparison: &comparison,
            command_line: "",
            left_out: &[],
            measure: Measure::Preemption,
            cases: &[case],
            samples: &samples,
        };
        let text = table.to_string();
        let line = "| 64 B × 64 | conet, one instance (`go`) | 1.00 (0.90 to 1.10) | 0.99 (0.98 to 1.00) |\n";
        assert!(text.contains(line) && text.contains(" by CPU |\n|---|---|---:|---:|\n"), "{text}");
    }

    #[test]
    fn what_is_no_rate_is_shown_with_its_extremes() {
        let case = Case::Idle { connections: 10 };
        let comparison = Comparison { servers: vec![Contender::Tokio], ..Comparison::default() };
        let mut samples = Samples::default();
        for (round, value) in [(1, 4.0), (2, 6.0), (3, 5.0)] {
            samples.add(Row::Server(Contender::Tokio), case, round, Figures { value, ..Figures::default() });
        }
        let table = Table {
            comparison: &comparison,
            command_line: "",
            left_out: &[],
            measure: Measure::Idle,
            cases: &[case],
            samples: &samples,
        };
        let text = table.to_string();
        assert!(text.contains("| 10 open | tokio, current thread | 5.00 (4.00 to 6.00) |\n"), "{text}");
    }
}
