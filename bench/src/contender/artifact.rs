//! The files the comparison runs, and how each is built.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use super::go;

/// Which artifacts to build before the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Build {
    /// All: cargo does nothing for those that are up to date.
    Always,
    /// Those whose file is not there.
    Missing,
    /// None: a missing one ends the comparison, with the command that builds it.
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Artifact {
    /// This program.
    Bench,
    /// `epoll.c`.
    EpollC,
    /// `echo.go`.
    Go,
    /// `spawn.go`.
    GoSpawn,
    /// conet-rt's native echo server.
    Runtime,
    /// `conet-host`.
    Host,
    /// The guest program.
    Echo,
    /// The guest handler.
    EchoHandler,
    /// The guest that is a client.
    Client,
    /// The guest that starts coroutines.
    Spawn,
    /// The program that discards.
    Discard,
    /// The handler that does.
    DiscardHandler,
    /// The program that computes for each message.
    Compute,
    /// The handler that does.
    ComputeHandler,
    /// The handler that is a bad neighbour.
    Attacker,
}

impl Artifact {
    /// Where it lies: in the target directory this program was built into.
    pub(crate) fn path(self) -> Result<PathBuf> {
        let bench = env::current_exe().context("cannot find this program's own file")?;
        let profile = bench.parent().context("this program lies in no directory")?;
        let target = target()?;
        Ok(match self {
            Self::Bench => bench,
            Self::EpollC => profile.join("epoll-c"),
            Self::Go => profile.join("echo-go"),
            Self::GoSpawn => profile.join("spawn-go"),
            Self::Runtime => target.join("release/examples/echo"),
            Self::Host => target.join("release/conet-host"),
            Self::Echo => target.join("wasm32-wasip2/release/echo.wasm"),
            Self::EchoHandler => target.join("wasm32-wasip2/release/echo-handler.wasm"),
            Self::Client => target.join("wasm32-wasip2/release/client.wasm"),
            Self::Spawn => target.join("wasm32-wasip2/release/bench-spawn.wasm"),
            Self::Discard => target.join("wasm32-wasip2/release/bench-discard.wasm"),
            Self::DiscardHandler => target.join("wasm32-wasip2/release/bench-discard-handler.wasm"),
            Self::Compute => target.join("wasm32-wasip2/release/bench-compute.wasm"),
            Self::Attacker => target.join("wasm32-wasip2/release/bench-attacker.wasm"),
            Self::ComputeHandler => target.join("wasm32-wasip2/release/bench-compute-handler.wasm"),
        })
    }

    /// Makes sure that it is there.
    pub(crate) fn prepare(self, build: Build) -> Result<()> {
        let path = self.path()?;
        if self == Self::Bench || (build != Build::Always && is_current(self, &path)) {
            return Ok(());
        }
        let command = self.build_command();
        ensure!(build != Build::Never, "{} is missing or old: build it with `{command}`", path.display());
        eprintln!("building {}: {command}", path.display());
        match self {
            Self::EpollC => compile(&path),
            Self::Go => go::compile(ECHO_GO, &path),
            Self::GoSpawn => go::compile(SPAWN_GO, &path),
            _ => cargo(&command, &path),
        }
        .with_context(|| format!("{} could not be built with `{command}`", path.display()))
    }

    fn build_command(self) -> String {
        match self {
            Self::Bench => "cargo build --release -p conet-bench".into(),
            Self::EpollC => "cc -O2 -o epoll-c bench/epoll.c".into(),
            Self::Go => "go build -o echo-go bench/echo.go".into(),
            Self::GoSpawn => "go build -o spawn-go bench/spawn.go".into(),
            Self::Runtime => "cargo build --release -p conet-rt --example echo".into(),
            Self::Host => "cargo build --release -p conet-host".into(),
            Self::Echo => "cargo build --release --target wasm32-wasip2 -p echo".into(),
            Self::EchoHandler => "cargo build --release --target wasm32-wasip2 -p echo-handler".into(),
            Self::Client => "cargo build --release --target wasm32-wasip2 -p client".into(),
            Self::Spawn
            | Self::Discard
            | Self::DiscardHandler
            | Self::Compute
            | Self::ComputeHandler
            | Self::Attacker => "cargo build --release --target wasm32-wasip2 -p conet-bench-guests".into(),
        }
    }
}

/// The target directory this program was built into.
pub(crate) fn target() -> Result<PathBuf> {
    let bench = env::current_exe().context("cannot find this program's own file")?;
    let profile = bench.parent().context("this program lies in no directory")?;
    Ok(profile.parent().unwrap_or(profile).to_owned())
}

/// The sources of the servers in C and Go are part of this program, so a binary older than it may be of
/// another source.
fn is_current(artifact: Artifact, path: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    match (artifact, modified(path), Artifact::Bench.path().map(|bench| modified(&bench))) {
        (Artifact::EpollC | Artifact::Go | Artifact::GoSpawn, Ok(built), Ok(Ok(bench))) => built >= bench,
        (_, built, _) => built.is_ok(),
    }
}

fn cargo(command: &str, path: &Path) -> Result<()> {
    let mut words = command.split(' ');
    let mut cargo = Command::new(words.next().unwrap_or("cargo"));
    cargo.args(words).current_dir(WORKSPACE);
    // Not the nearest of the path's folders that look like one: that of a triple does too.
    cargo.arg("--target-dir").arg(target()?);
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "cargo ended with {status}");
    ensure!(path.exists(), "cargo succeeded but did not make the file");
    Ok(())
}

fn compile(path: &Path) -> Result<()> {
    // Not written in place: the old file may be running.
    let fresh = path.with_extension("new");
    let mut command = Command::new("cc");
    command.args(["-O2", "-x", "c", "-", "-o"]).arg(&fresh).stdin(Stdio::piped());
    let mut cc = match command.spawn() {
        Ok(cc) => cc,
        Err(error) => {
            bail!("cannot start cc ({error}): install a C compiler, or leave epoll-c out of --servers")
        }
    };
    cc.stdin.take().context("cc has no input")?.write_all(EPOLL_C.as_bytes())?;
    let status = cc.wait()?;
    ensure!(status.success(), "cc ended with {status}");
    Ok(fs::rename(&fresh, path)?)
}

/// The raw epoll loop in C.
const EPOLL_C: &str = include_str!("../../epoll.c");

const ECHO_GO: &str = include_str!("../../echo.go");

const SPAWN_GO: &str = include_str!("../../spawn.go");

/// Where the sources were when this program was built.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
