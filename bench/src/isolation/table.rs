//! The outcomes as Markdown.

use std::fmt;

use super::outcome::{Outcome, Part};
use super::{Isolation, Stage};
use crate::compare::machine;

pub(super) struct Table<'a> {
    pub(super) isolation: &'a Isolation,
    pub(super) command_line: &'a str,
    pub(super) outcomes: &'a [Outcome],
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Isolation { rounds, duration, driver, stage, .. } = self.isolation;
        let Stage { server_core, load_core, .. } = stage;
        writeln!(f, "`{}`\n", self.command_line)?;
        writeln!(
            f,
            "Host with one worker on core {server_core}, driver {}; probe and the attackers' peers on core {load_core}. {rounds} rounds in \
             turn, {} s each, without the attack → with it; latencies in µs, medians of the rounds; inflation is the ratio of \
             p99 within a round (least to greatest). {}.\n",
            driver.name(),
            duration.as_secs_f64(),
            machine()
        )?;
        writeln!(f, "{HEAD}")?;
        self.outcomes.iter().try_for_each(|outcome| writeln!(f, "{}", line(outcome)))
    }
}

/// A row.
pub(super) fn line(outcome: &Outcome) -> String {
    let messages: Part = |probed| &probed.messages;
    let connections: Part = |probed| &probed.connections;
    let arrow = |(baseline, attacked): (f64, f64)| format!("{baseline:.0} → {attacked:.0}");
    format!(
        "| {} | {} | {} | {} | {} | **{}** | {} | **{}** | {:.0} | {:.0} | {} | {} | {} | {:.0} |",
        outcome.victim.label(),
        outcome.attacker.label(),
        arrow(outcome.latencies(messages, |latency| latency.p50_us)),
        arrow(outcome.latencies(messages, |latency| latency.p99_us)),
        arrow(outcome.latencies(messages, |latency| latency.p999_us)),
        outcome.inflation(messages),
        arrow(outcome.latencies(connections, |latency| latency.p99_us)),
        outcome.inflation(connections),
        outcome.spread(|round| round.attacker_cpu * 100.0).median,
        outcome.spread(|round| round.strikes as f64).median,
        outcome.errors(),
        outcome.wrong_bytes(),
        outcome.left().unwrap_or_else(|| "nothing".into()),
        outcome.disturbed() * 100.0,
    )
}

const HEAD: &str = "\
| victim | attacker | message p50 | p99 | p99.9 | inflation | new connection p99 | inflation | attacker's CPU % | its connections | errors | wrong bytes | left behind | disturbed % |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|";
