//! What a tenant notices of a bad neighbour: an echo server is probed, with the neighbour idle and at its worst, in turn.
//!
//! Both are tenants of one `conet-host serve` with one worker, on one core. The probe is an open loop on another core:
//! latencies count from the time at which a message was meant to be sent, so what the neighbour holds up shows whole.

mod attack;
mod attacker;
mod levels;
mod outcome;
mod probe;
mod table;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::affinity;
use crate::contender::Artifact;
use crate::hosted::{self, Driver, Echo, Hosted, Stage, tenant};
use crate::serve::raise_open_files;
use attack::Attack;
pub use attacker::Attacker;
use levels::Levels;
use outcome::{Outcome, Round};
use probe::Probe;
use table::Table;

/// What to measure, and how.
#[derive(Debug, Clone)]
pub struct Isolation {
    /// Who is probed.
    pub victims: Vec<Echo>,
    /// Their neighbours, one at a time.
    pub attackers: Vec<Attacker>,
    /// Rounds; each probes once beside the idle neighbour and once beside the attack.
    pub rounds: usize,
    /// The measured time of a probe.
    pub duration: Duration,
    /// The probe before it.
    pub warm_up: Duration,
    /// What the host's worker waits for its sockets with.
    pub driver: Driver,
    /// Where; the attackers' peers share the probe's core.
    pub stage: Stage,
}

/// Measures, and writes the table to `out`. False: a victim had errors, or an attack left something behind.
pub fn run(isolation: &Isolation, command_line: &str, out: &mut dyn Write) -> Result<bool> {
    ensure!(isolation.rounds > 0, "--rounds must be at least 1");
    ensure!(isolation.stage.server_core != isolation.stage.load_core, "host and load need a core each");
    let victims = isolation.victims.iter().map(|victim| victim.artifact());
    let artifacts = [Artifact::Host, Artifact::Attacker].into_iter().chain(victims);
    let section = isolation.stage.prepare("isolation", artifacts)?;
    raise_open_files()?;
    // Threads that are started from here on stay out of the host's way.
    affinity::pin(&[isolation.stage.load_core])?;
    let mut outcomes = Vec::new();
    for &victim in &isolation.victims {
        for &attacker in &isolation.attackers {
            let measured = isolation.measure(victim, attacker);
            let outcome =
                measured.with_context(|| format!("{} beside {}", victim.label(), attacker.label()))?;
            eprintln!("{}", table::line(&outcome));
            outcomes.push(outcome);
        }
    }
    let text = Table { isolation, command_line, outcomes: &outcomes }.to_string();
    writeln!(out, "{text}")?;
    if let Some(section) = section {
        section.write_text(&text)?;
    }
    Ok(outcomes.iter().all(Outcome::is_clean))
}

impl Isolation {
    fn measure(&self, victim: Echo, attacker: Attacker) -> Result<Outcome> {
        let neighbour = tenant("attacker", &Artifact::Attacker.path()?, &attacker.lines());
        let host =
            Hosted::start(self.driver, self.stage.server_core, &[victim.tenant("victim")?, neighbour])?;
        let rounds = self.rounds(&host, attacker).with_context(|| host.last_words());
        let (rounds, before, after) = rounds?;
        host.stop()?;
        Ok(Outcome { victim, attacker, rounds, before, after })
    }

    fn rounds(&self, host: &Hosted, attacker: Attacker) -> Result<(Vec<Round>, Levels, Levels)> {
        let probe = Probe {
            victim: host.address("victim")?,
            duration: self.duration,
            warm_up: self.warm_up,
            core: self.stage.load_core,
        };
        // Caches and pools fill: what stays of that is not what an attack leaves.
        let rehearsal = Attack::begin(attacker, host.address("attacker")?, self.stage.load_core)?;
        let probed = Probe { duration: REHEARSAL, ..probe }.run();
        rehearsal.end();
        probed?;
        let before = settled(host, None)?;
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            let baseline = probe.run()?;
            let (cpu, began) = (cpu_seconds(host)?, Instant::now());
            let attack = Attack::begin(attacker, host.address("attacker")?, self.stage.load_core)?;
            let attacked = probe.run();
            let strikes = attack.end();
            let attacker_cpu = (cpu_seconds(host)? - cpu) / began.elapsed().as_secs_f64();
            rounds.push(Round { baseline, attacked: attacked?, attacker_cpu, strikes });
            settled(host, Some(&before))?;
        }
        let after = settled(host, Some(&before))?;
        Ok((rounds, before, after))
    }
}

fn cpu_seconds(host: &Hosted) -> Result<f64> {
    Ok(host.told()?.tenant("attacker")?.cpu_seconds)
}

/// What the host holds once that is no more than `before`; or else in the end. With nothing before, once it has not changed
/// for a while.
fn settled(host: &Hosted, before: Option<&Levels>) -> Result<Levels> {
    let until = Instant::now() + SETTLING;
    let (mut last, mut since) = (Levels::of(host)?, Instant::now());
    loop {
        hosted::pause();
        let levels = Levels::of(host)?;
        if levels.left_since(&last).or(last.left_since(&levels)).is_some() {
            (last, since) = (levels, Instant::now());
        }
        let gone = match before {
            Some(before) => levels.left_since(before).is_none(),
            None => levels.connections == 0 && since.elapsed() > STILL,
        };
        if gone || Instant::now() > until {
            return Ok(levels);
        }
    }
}

const REHEARSAL: Duration = Duration::from_millis(500);

/// How long nothing has changed where all has been started: the host makes its pool of instances meanwhile.
const STILL: Duration = Duration::from_millis(500);

/// How long what an attack held may take to be given back: a name server that does not answer is waited for as long as the
/// system's resolver does.
const SETTLING: Duration = Duration::from_secs(30);
