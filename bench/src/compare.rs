//! Servers side by side: each in turn, in rounds, on the same cores, with ratios taken within a round.
//!
//! A machine's noise is larger than some differences, and drifts. So every number is measured next to the one it is
//! compared with, and the spread over the rounds is shown.

mod markdown;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::contender::{Build, Contender, Server};
use crate::load::{self, Pace, Plan, Report};
use crate::serve::raise_open_files;
use crate::{affinity, idle};
use markdown::Section;
use table::{Row, Table};

/// What to compare, and how.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// In the order they take turns.
    pub servers: Vec<Contender>,
    /// Rounds; each runs every server once at each number of connections.
    pub rounds: usize,
    /// The core of the server.
    pub server_core: usize,
    /// The core of the load generator.
    pub load_core: usize,
    /// Whether the generator never sleeps.
    pub spin: bool,
    /// Numbers of connections.
    pub connections: Vec<usize>,
    /// The measured time of each run.
    pub duration: Duration,
    /// Load before it.
    pub warm_up: Duration,
    /// Bytes in a message.
    pub size: usize,
    /// Requests in flight on each connection.
    pub depth: usize,
    /// Connections to measure idle memory with; 0: it is not measured.
    pub idle_connections: usize,
    /// Which servers to build first.
    pub build: Build,
    /// A file to write the tables into.
    pub markdown: Option<PathBuf>,
}

/// Compares, and writes the tables to `out`. False: some runs had errors, which the tables show.
pub fn run(comparison: &Comparison, command_line: &str, out: &mut dyn Write) -> Result<bool> {
    comparison.check()?;
    let section = comparison.markdown.as_deref().map(Section::find).transpose()?;
    let comparison = &Comparison { servers: prepare(comparison, out)?, ..comparison.clone() };
    // Cargo was free to use every core; from here on this process stays out of the server's way.
    affinity::pin(&[comparison.load_core])?;
    let mut table = Table::new(comparison, command_line);
    for round in 1..=comparison.rounds {
        for &connections in &comparison.connections {
            comparison.turn(round, connections, &mut table)?;
        }
    }
    for &server in comparison.servers.iter().filter(|_| comparison.idle_connections > 0) {
        table.add_idle(server, comparison.idle(server)?);
    }
    let text = table.to_string();
    writeln!(out, "{text}")?;
    section.map(|section| section.write(&text)).transpose()?;
    Ok(table.is_clean())
}

/// Those that can run here. A line says which cannot, and why.
fn prepare(comparison: &Comparison, out: &mut dyn Write) -> Result<Vec<Contender>> {
    let mut servers = Vec::new();
    for &server in &comparison.servers {
        match server.prepare(comparison.build)? {
            None => servers.push(server),
            Some(reason) => writeln!(out, "Left out: {}: {reason}.\n", server.label())?,
        }
    }
    Ok(servers)
}

impl Comparison {
    fn check(&self) -> Result<()> {
        ensure!(self.rounds > 0, "there must be at least one round");
        ensure!(
            self.server_core != self.load_core,
            "server and load generator need a core each: both were given core {}",
            self.load_core
        );
        let most = self.connections.iter().copied().max().unwrap_or(0).max(self.idle_connections);
        let files = raise_open_files()?;
        ensure!(
            (most + 64) as u64 <= files,
            "{most} connections do not fit into {files} open files (ulimit -Hn)"
        );
        Ok(())
    }

    /// Every server once, and the generator without a server.
    fn turn(&self, round: usize, connections: usize, table: &mut Table) -> Result<()> {
        for &contender in &self.servers {
            let report = self.measure(contender, connections).with_context(|| contender.label())?;
            self.progress(round, contender.label(), &report);
            table.add(Row::Server(contender), connections, round, report);
        }
        let report = load::run(&self.plan(connections).null())?;
        self.progress(round, "no server", &report);
        table.add(Row::Ceiling, connections, round, report);
        Ok(())
    }

    fn measure(&self, contender: Contender, connections: usize) -> Result<Report> {
        let server = Server::start(contender.command(&[])?, self.server_core, contender.address())?;
        let plan = Plan {
            peer: load::Peer::Server(server.address()),
            server_pid: Some(server.pid()),
            ..self.plan(connections)
        };
        let report = load::run(&plan).with_context(|| server.last_words())?;
        server.stop()?;
        Ok(report)
    }

    fn idle(&self, contender: Contender) -> Result<f64> {
        let server = Server::start(contender.command(&[])?, self.server_core, contender.address())?;
        let report = idle::run(server.address(), server.pid(), self.idle_connections)
            .with_context(|| format!("{}, idle: {}", contender.label(), server.last_words()))?;
        eprintln!("idle: {}: {report}", contender.label());
        server.stop()?;
        Ok(report.per_connection_kib)
    }

    fn plan(&self, connections: usize) -> Plan {
        Plan {
            peer: load::Peer::Null,
            connections,
            size: self.size,
            pace: Pace::Closed { depth: self.depth },
            warm_up: self.warm_up,
            duration: self.duration,
            requests: None,
            threads: 1,
            cores: vec![self.load_core],
            spin: self.spin,
            verify: false,
            server_pid: None,
        }
    }

    fn progress(&self, round: usize, label: &str, report: &Report) {
        let Report { connections, requests_per_second, generator_busy, .. } = report;
        eprintln!(
            "round {round}/{}, {connections} connections: {label}: {requests_per_second:.0}/s, generator busy {:.0} %, disturbed {:.0} %",
            self.rounds,
            generator_busy * 100.0,
            report.disturbed.unwrap_or(0.0) * 100.0
        );
        if !report.errors.is_empty() {
            eprintln!("{report}");
        }
    }
}
