//! Servers side by side: each in turn, in rounds, on the same cores, with ratios taken within a round.
//!
//! A machine's noise is larger than some differences, and drifts. So every number is measured next to the one
//! it is compared with, and the spread over the rounds is shown.

pub(crate) mod markdown;
mod measure;
mod paired;
mod plot;
mod run;
mod samples;
mod summary;
mod table;
mod target;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::affinity;
use crate::contender::{Build, Contender};
use crate::serve::raise_open_files;
use markdown::Section;
use measure::Case;
pub use measure::Measure;
use plot::Plot;
pub(crate) use samples::Spread;
use samples::{Figures, Row, Samples};
use summary::Summary;
use table::Table;
pub(crate) use table::machine;

/// What to compare, and how.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// In the order they take turns.
    pub servers: Vec<Contender>,
    /// What to measure.
    pub measures: Vec<Measure>,
    /// Rounds; each runs every server once in each case.
    pub rounds: usize,
    /// The core of the server.
    pub server_core: usize,
    /// The core of the load generator.
    pub load_core: usize,
    /// Whether the generator never sleeps.
    pub spin: bool,
    /// Numbers of connections.
    pub connections: Vec<usize>,
    /// Bytes in a message.
    pub sizes: Vec<usize>,
    /// Messages in flight on each connection.
    pub depths: Vec<usize>,
    /// The measured time of each run.
    pub duration: Duration,
    /// Load before it.
    pub warm_up: Duration,
    /// Connections to measure idle memory with.
    pub idle_connections: usize,
    /// Which servers to build first.
    pub build: Build,
    /// A file to write the tables into.
    pub markdown: Option<PathBuf>,
}

/// Compares, and writes the tables to `out`. False: some runs failed or had errors, which the tables show.
pub fn run(comparison: &Comparison, command_line: &str, out: &mut dyn Write) -> Result<bool> {
    comparison.check()?;
    let mut sections = Vec::new();
    for &measure in &comparison.measures {
        let find = |path| Section::find(path, measure.name());
        sections.push((measure, comparison.markdown.as_deref().map(find).transpose()?));
    }
    // Only some files have one.
    let summary_section =
        comparison.markdown.as_deref().and_then(|path| Section::find(path, "summary".into()).ok());
    let mut summary = Summary::default();
    let mut left_out = Vec::new();
    let servers = prepare(comparison, &mut left_out)?;
    let comparison = &Comparison { servers, ..comparison.clone() };
    // Cargo was free to use every core; from here on this process stays out of the server's way.
    affinity::pin(&[comparison.load_core])?;
    let mut clean = true;
    for (measure, section) in sections {
        let mut cases = measure.cases(comparison);
        cases.retain(|case| comparison.servers.iter().any(|&server| case.applies_to(server)));
        if cases.is_empty() {
            eprintln!("{}: nothing that applies to these servers", measure.name());
            continue;
        }
        let samples = comparison.measure(&cases);
        let (shown, results) = (cases.as_slice(), &samples);
        let text =
            Table { comparison, command_line, left_out: &left_out, measure, cases: shown, samples: results }
                .to_string();
        writeln!(out, "{text}")?;
        if let Some(section) = section {
            let columns = comparison.connections.len().min(PANELS_WIDE);
            let plot =
                Plot { measure, servers: &comparison.servers, cases: shown, samples: results, columns };
            section.write(&plot.to_string(), &text)?;
        }
        clean &= samples.is_clean();
        summary.add(cases, samples);
        // At once: what comes later may be cut short.
        if let Some(section) = &summary_section {
            section.write_text(&summary.table(command_line, &section.text()?))?;
        }
    }
    Ok(clean)
}

/// Those that can run here; those that cannot, with the reason, go to `left_out`.
fn prepare(comparison: &Comparison, left_out: &mut Vec<(Contender, String)>) -> Result<Vec<Contender>> {
    let mut servers = Vec::new();
    for &server in &comparison.servers {
        match server.prepare(comparison.build)? {
            None => servers.push(server),
            Some(reason) => {
                eprintln!("left out: {}: {reason}", server.label());
                left_out.push((server, reason));
            }
        }
    }
    if comparison.measures.contains(&Measure::Pool) && servers.iter().any(|server| server.is_conet()) {
        Contender::prepare_pool_client(comparison.build)?;
    }
    if comparison.measures.contains(&Measure::Bulk) {
        servers.iter().try_for_each(|server| server.prepare_discarder(comparison.build))?;
    }
    if comparison.measures.contains(&Measure::Spawn) {
        servers.iter().try_for_each(|server| server.prepare_spawner(comparison.build))?;
    }
    if comparison.measures.contains(&Measure::FirstInstruction) && servers.contains(&Contender::ConetInstance)
    {
        Contender::ConetInstance.prepare_spawner(comparison.build)?;
    }
    if comparison.measures.contains(&Measure::Workers) && servers.iter().any(|server| server.is_conet()) {
        Contender::prepare_computers(comparison.build)?;
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

    /// All rounds. A run that fails is noted, and the others go on.
    fn measure(&self, cases: &[Case]) -> Samples {
        let mut samples = Samples::default();
        for round in 1..=self.rounds {
            for &case in cases {
                for &server in self.servers.iter().filter(|&&server| case.applies_to(server)) {
                    let figures = self.run(server, case);
                    self.note(&mut samples, Row::Server(server), case, round, figures);
                }
                if case.has_ceiling() {
                    let figures = self.ceiling(case).map(|figures| vec![figures]);
                    self.note(&mut samples, Row::Ceiling, case, round, figures);
                }
            }
        }
        samples
    }

    fn note(&self, samples: &mut Samples, row: Row, case: Case, round: usize, figures: Result<Vec<Figures>>) {
        let (rounds, label) = (self.rounds, row.label());
        let figures = figures.unwrap_or_else(|error| {
            eprintln!("round {round}/{rounds}, {case}: {label} FAILED: {error:#}");
            samples.add_failure(row, case, format!("{error:#}"));
            Vec::new()
        });
        for figures in figures {
            let percent = |share: Option<f64>| share.unwrap_or(0.0) * 100.0;
            eprintln!(
                "round {round}/{rounds}, {case}: {label}: {:.2}, generator busy {:.0} %, disturbed {:.0} %",
                figures.value,
                percent(figures.generator_busy),
                percent(figures.disturbed)
            );
            samples.add(row, case, round, figures);
        }
    }
}

impl Default for Comparison {
    /// All of it, in over half an hour.
    fn default() -> Self {
        Self {
            servers: Contender::ALL.into(),
            measures: Measure::ALL.into(),
            rounds: 5,
            server_core: 0,
            load_core: 1,
            spin: true,
            connections: vec![1, 64, 1000, 10_000],
            sizes: vec![64, 512, 16 * 1024],
            depths: vec![1, 16],
            duration: Duration::from_secs(1),
            warm_up: Duration::from_millis(500),
            idle_connections: 5000,
            build: Build::Missing,
            markdown: None,
        }
    }
}

/// Panels of a drawing side by side, so that those of a row differ in the number of connections.
const PANELS_WIDE: usize = 4;
