//! Instructions that a server executes for a request in user space, the guest's compiled code included.
//!
//! The server runs under valgrind's cachegrind, twice, with different numbers of requests: the difference of
//! the two counts belongs to the difference of requests, and start and end cancel out. What the machine does
//! beside it hardly shows, so a change of a few per cent is a change of the code, which no clock could tell.
//! The kernel's share is not in it, nor what a cache miss costs: fewer instructions are not always faster.
//! And what a server does once in a millisecond it does for fewer requests than usual, which take some ten
//! times as long: counts are for comparing with each other.

mod record;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::affinity;
use crate::contender::{Build, Contender, Server, target};
use crate::load::{self, Plan};
pub use record::Record;

/// What to count.
#[derive(Debug, Clone)]
pub struct Counting {
    /// In this order.
    pub servers: Vec<Contender>,
    /// Connections, with a request in flight on each.
    pub connections: usize,
    /// Bytes in a message.
    pub size: usize,
    /// Requests of the shorter run. The longer one has as many more as [`Self::requests`] says.
    pub warm_up_requests: u64,
    /// Requests that the counts differ by.
    pub requests: u64,
    /// The core of the server.
    pub server_core: usize,
    /// The core of the load generator.
    pub load_core: usize,
    /// Which servers to build first.
    pub build: Build,
}

/// Counts, one server after the other.
pub fn run(counting: &Counting) -> Result<Record> {
    ensure!(counting.requests > 0, "there must be at least one request");
    ensure!(
        counting.connections <= CONNECTIONS_MAX,
        "at most {CONNECTIONS_MAX} connections: valgrind has no address space for more instances"
    );
    look_for_valgrind()?;
    for server in &counting.servers {
        if let Some(reason) = server.prepare(counting.build)? {
            bail!("{}: {reason}", server.label());
        }
    }
    affinity::pin(&[counting.load_core])?;
    let mut record = Record::new(counting.connections, counting.size);
    for &server in &counting.servers {
        let instructions = counting.per_request(server).with_context(|| server.label())?;
        eprintln!("{}: {instructions:.0} instructions per request", server.label());
        record.add(server, instructions);
    }
    Ok(record)
}

impl Counting {
    fn per_request(&self, server: Contender) -> Result<f64> {
        // The first start under valgrind, which shows its own kind of processor, compiles the guest.
        self.count(server, 0)?;
        let short = self.count(server, self.warm_up_requests)?;
        let long = self.count(server, self.warm_up_requests + self.requests)?;
        let more = long.checked_sub(short).context("the longer run took fewer instructions")?;
        Ok(more as f64 / self.requests as f64)
    }

    /// Instructions from the server's start to its end, with so many requests between.
    fn count(&self, server: Contender, requests: u64) -> Result<u64> {
        let command = under_valgrind(&server.command(&host_options(server)?)?);
        let process = Server::start(command, &[self.server_core], server.address())?;
        if requests > 0 {
            let plan = Plan {
                size: self.size,
                warm_up: Duration::ZERO,
                duration: PATIENCE,
                requests: Some(requests),
                cores: vec![self.load_core],
                ..Plan::new(process.address(), self.connections)
            };
            let report = load::run(&plan).with_context(|| process.last_words())?;
            ensure!(report.errors.is_empty(), "the load had errors:\n{report}");
        }
        let lines = process.stop()?;
        let count = lines.iter().rev().find_map(|line| instructions(line));
        count.with_context(|| format!("valgrind gave no count:\n  {}", lines.join("\n  ")))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "instructions per request in user space, {} bytes over {} connections",
            self.size, self.connections
        )?;
        let width = self.instructions.keys().map(String::len).max().unwrap_or(0);
        self.instructions.iter().try_for_each(|(name, count)| writeln!(f, "  {name:width$}  {count:6.0}"))
    }
}

fn look_for_valgrind() -> Result<()> {
    match Command::new("valgrind").arg("--version").stdout(Stdio::null()).status() {
        Ok(status) => {
            ensure!(status.success(), "valgrind --version ended with {status}");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("valgrind counts the instructions and is not installed: apt-get install valgrind")
        }
        Err(error) => Err(error).context("cannot start valgrind"),
    }
}

fn under_valgrind(command: &Command) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    valgrind.arg(command.get_program()).args(command.get_args());
    valgrind
}

/// A pool for no more than the connections: valgrind cannot reserve the address space of the usual one.
fn host_options(server: Contender) -> Result<Vec<OsString>> {
    let memory = if server.has_an_instance_each() { "2MiB" } else { "64MiB" };
    let most = CONNECTIONS_MAX + SPARE;
    let mut options: Vec<OsString> = ["--memory-max", memory, "--coroutines-max"].map(OsString::from).into();
    options.extend([most.to_string().into(), "--connections-max".into(), most.to_string().into()]);
    options.extend(["--cache".into(), cache()?.into()]);
    Ok(options)
}

/// Compiled code for the processor that valgrind shows, apart from the user's own.
fn cache() -> Result<PathBuf> {
    let path = target()?.join("conet-bench/cache");
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", path.display()))
        }
        _ => Ok(path),
    }
}

/// The count in `==7== I   refs:      2,206,089,433`.
fn instructions(line: &str) -> Option<u64> {
    let (before, count) = line.split_once("refs:")?;
    let count = count.split_whitespace().next()?.replace(',', "");
    before.trim_end().ends_with('I').then(|| count.parse().ok())?
}

/// As many as conet's pool has room for under valgrind.
const CONNECTIONS_MAX: usize = 300;

/// Coroutines that belong to no connection.
const SPARE: usize = 10;

/// The longest that the requests of a run may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_valgrinds_summary() {
        assert_eq!(instructions("==635== I   refs:      2,206,089,433"), Some(2_206_089_433));
        assert_eq!(instructions("==635== I refs:        17"), Some(17));
        assert_eq!(instructions("==635== D   refs:      2,206"), None);
        assert_eq!(instructions("listening on 127.0.0.1:7000"), None);
    }
}
