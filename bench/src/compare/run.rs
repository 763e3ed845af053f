//! One run: a server, a case, what came of it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Output;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Comparison;
use super::measure::Case;
use super::samples::Figures;
use crate::contender::{self, Contender, Server};
use crate::idle;
use crate::load::{self, Pace, Peer, Plan};

impl Comparison {
    /// Runs `case` once on a fresh `server`; in pairs of bursts, as many times as there are pairs.
    pub(super) fn run(&self, server: Contender, case: Case) -> Result<Vec<Figures>> {
        let figures = match case {
            Case::Echo { .. } | Case::Connect { .. } => self.load(server, case),
            Case::Bulk { connections } => self.bulk(server, connections),
            Case::Pool { coroutines } => self.pool(server, coroutines),
            Case::Spawn => self.spawn(server),
            Case::Idle { connections } => self.idle(server, connections),
            Case::ColdStart | Case::WarmStart => self.start(server, case),
            Case::FirstInstruction => self.first_instruction(server),
            Case::Workers(compute) => return self.workers(server, compute),
            Case::Preemption { connections } => return self.preemption(server, connections),
        };
        Ok(vec![figures?])
    }

    /// The generator without a server.
    pub(super) fn ceiling(&self, case: Case) -> Result<Figures> {
        Ok(Figures::from(&load::run(&self.plan(case).null())?))
    }

    fn load(&self, contender: Contender, case: Case) -> Result<Figures> {
        let server = Server::start(contender.command(&[])?, &[self.server_core], contender.address())?;
        let peer = Peer::Server(server.address());
        let plan = Plan { peer, server_pid: Some(server.pid()), ..self.plan(case) };
        let report = load::run(&plan).with_context(|| server.last_words())?;
        server.stop()?;
        if !report.errors.is_empty() {
            eprintln!("{report}");
        }
        Ok(Figures::from(&report))
    }

    fn plan(&self, case: Case) -> Plan {
        let plan = self.echo_plan(case.connections());
        match case {
            Case::Echo { size, depth, .. } => Plan { size, pace: Pace::Closed { depth }, ..plan },
            _ => Plan { pace: Pace::Connect, ..plan },
        }
    }

    /// Ping-pong of small messages.
    pub(super) fn echo_plan(&self, connections: usize) -> Plan {
        Plan {
            peer: Peer::Null,
            connections,
            size: SMALL_BYTES,
            pace: Pace::Closed { depth: 1 },
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

    fn bulk(&self, contender: Contender, connections: usize) -> Result<Figures> {
        let server = Server::start(contender.discarder()?, &[self.server_core], None)?;
        let rate = load::bulk(server.address(), connections, self.warm_up, self.duration);
        let value = rate.with_context(|| server.last_words())?;
        server.stop()?;
        Ok(Figures { value, ..Figures::default() })
    }

    /// conet's client has the server's core, and the raw epoll loop the load's.
    fn pool(&self, client: Contender, coroutines: usize) -> Result<Figures> {
        let server = Server::start(Contender::Epoll.command(&[])?, &[self.load_core], None)?;
        // Some 50,000 a second.
        let requests = (self.duration.as_secs_f64() * 50_000.0).max(1000.0) as u64;
        let command = client.pool_client(server.address(), coroutines, requests)?;
        let output = contender::output(command, self.server_core)?;
        server.stop()?;
        let said = said(&output)?;
        let errors = field(&said, "errors")? as u64;
        Ok(Figures {
            value: field(&said, "requests")? / field(&said, "seconds")?,
            errors,
            ..Figures::default()
        })
    }

    fn spawn(&self, contender: Contender) -> Result<Figures> {
        // About what each starts in a second.
        let a_second = match contender {
            _ if contender.has_an_instance_each() => 20_000.0,
            _ if contender.is_conet() => 300_000.0,
            _ => 3_000_000.0,
        };
        let count = (self.duration.as_secs_f64() * a_second).max(1000.0) as u64;
        let said = said(&contender::output(contender.spawner(count)?, self.server_core)?)?;
        Ok(Figures { value: field(&said, "spawned")? / field(&said, "seconds")?, ..Figures::default() })
    }

    /// The median of many, as one that the system interrupts takes many times as long.
    fn first_instruction(&self, contender: Contender) -> Result<Figures> {
        // Each takes half a millisecond, most of it a pause.
        let count = (self.duration.as_secs_f64() * 1000.0).max(100.0) as u64;
        let said = said(&contender::output(contender.first_instructions(count)?, self.server_core)?)?;
        let mut times = said.lines().map(|line| field(line, "first_ns")).collect::<Result<Vec<_>>>()?;
        ensure!(!times.is_empty(), "no instance has told when it began");
        times.sort_by(f64::total_cmp);
        Ok(Figures { value: times[times.len() / 2] / 1000.0, ..Figures::default() })
    }

    fn idle(&self, contender: Contender, connections: usize) -> Result<Figures> {
        let server = Server::start(contender.command(&[])?, &[self.server_core], contender.address())?;
        let report = idle::run(server.address(), server.pid(), connections);
        let report = report.with_context(|| server.last_words())?;
        server.stop()?;
        Ok(Figures { value: report.per_connection_kib, ..Figures::default() })
    }

    fn start(&self, contender: Contender, case: Case) -> Result<Figures> {
        let options = if contender.is_conet() {
            vec!["--cache".into(), cache(contender, case == Case::ColdStart)?.into()]
        } else {
            Vec::new()
        };
        let command = contender.command(&options)?;
        let began = Instant::now();
        let server = Server::start(command, &[self.server_core], contender.address())?;
        let value = began.elapsed().as_secs_f64() * 1000.0;
        server.stop()?;
        Ok(Figures { value, ..Figures::default() })
    }
}

/// The cache of one server alone, as another's cold start would empty a common one.
fn cache(contender: Contender, cold: bool) -> Result<PathBuf> {
    let cache = contender::target()?.join(format!("conet-bench/start-{}", contender.name()));
    if cold && cache.exists() {
        fs::remove_dir_all(&cache).with_context(|| format!("cannot empty {}", cache.display()))?;
    }
    let made = DirBuilder::new().mode(0o700).recursive(true).create(&cache);
    made.with_context(|| format!("cannot make {}", cache.display()))?;
    Ok(cache)
}

/// What a program that went well wrote to its standard output.
fn said(output: &Output) -> Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it ended with {}: {}", output.status, stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number in `NAME=NUMBER`.
fn field(said: &str, name: &str) -> Result<f64> {
    let word = said.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let number = word.and_then(|word| word.parse().ok());
    number.with_context(|| format!("there is no {name}=NUMBER in what it said: {}", said.trim()))
}

/// Bytes of the messages of all loads but echo of other sizes.
const SMALL_BYTES: usize = 64;
