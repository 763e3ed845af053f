//! What the same runtimes and languages run besides an echo server.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Result;

use super::artifact::{Artifact, Build};
use super::{ANY_PORT, Contender};

/// What of conet computes for each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compute {
    /// A handler, an instance for each connection.
    Isolated,
    /// A handler, an instance on each worker.
    Shared,
    /// A program, a copy on each worker.
    Program,
}

impl Compute {
    pub(crate) const ALL: [Self; 3] = [Self::Isolated, Self::Shared, Self::Program];

    fn guest(self) -> Artifact {
        match self {
            Self::Isolated | Self::Shared => Artifact::ComputeHandler,
            Self::Program => Artifact::Compute,
        }
    }
}

impl Contender {
    /// Builds what [`Self::computer`] needs besides the host.
    pub(crate) fn prepare_computers(build: Build) -> Result<()> {
        [Artifact::Compute, Artifact::ComputeHandler].iter().try_for_each(|guest| guest.prepare(build))
    }

    /// conet with so many workers, on a free port.
    pub(crate) fn computer(self, compute: Compute, workers: usize) -> Result<Command> {
        let mut command = Command::new(Artifact::Host.path()?);
        self.host(&mut command, workers);
        match compute {
            Compute::Isolated => command.args(["--listen", ANY_PORT]),
            Compute::Shared => command.args(["--listen", ANY_PORT, "--isolation", "shared"]),
            Compute::Program => command.args(["--instances", "per-worker"]),
        };
        command.arg(compute.guest().path()?);
        if compute == Compute::Program {
            command.arg(ANY_PORT);
        }
        Ok(command)
    }

    /// Whether it can be told to discard what it receives.
    pub(crate) fn can_discard(self) -> bool {
        self.is_conet() || matches!(self, Self::Epoll | Self::Tokio | Self::TokioMulti | Self::Go)
    }

    /// Builds what [`Self::discarder`] needs besides what the echo server does.
    pub(crate) fn prepare_discarder(self, build: Build) -> Result<()> {
        if !self.is_conet() {
            return Ok(());
        }
        [Artifact::Discard, Artifact::DiscardHandler].iter().try_for_each(|guest| guest.prepare(build))
    }

    /// A server that discards what it receives, on a free port.
    pub(crate) fn discarder(self) -> Result<Command> {
        let mut command = Command::new(self.artifacts()[0].path()?);
        match self {
            Self::Tokio => command.args(["serve-tokio", "--discard", ANY_PORT]),
            Self::TokioMulti => command.args(["serve-tokio", "--multi-thread", "--discard", ANY_PORT]),
            Self::Go => command.args([ANY_PORT, "discard"]),
            _ if self.is_conet() => {
                self.host(&mut command, 1);
                if self.has_an_instance_each() {
                    command.args(["--listen", ANY_PORT]).arg(Artifact::DiscardHandler.path()?)
                } else {
                    command.arg(Artifact::Discard.path()?).arg(ANY_PORT)
                }
            }
            _ => command.args(["serve-epoll", "--discard", ANY_PORT]),
        };
        Ok(command)
    }

    /// Builds what [`Self::pool_client`] needs besides the host.
    pub(crate) fn prepare_pool_client(build: Build) -> Result<()> {
        Artifact::Client.prepare(build)
    }

    /// conet's client, with so many coroutines that share a quarter as many connections to `server`.
    pub(crate) fn pool_client(self, server: SocketAddr, coroutines: usize, requests: u64) -> Result<Command> {
        let server = server.to_string();
        let mut command = Command::new(Artifact::Host.path()?);
        self.host(&mut command, 1)
            .args(["--allow-connect", &server])
            .arg(Artifact::Client.path()?)
            .arg(&server);
        command.args(["--pool", &(coroutines / 4).to_string(), "--coroutines", &coroutines.to_string()]);
        command.args(["--requests", &requests.to_string()]);
        Ok(command)
    }

    /// Whether it has a way to start coroutines, tasks or goroutines.
    pub(crate) fn can_spawn(self) -> bool {
        self.is_conet() || matches!(self, Self::Tokio | Self::TokioMulti | Self::Go)
    }

    /// Builds what [`Self::spawner`] needs besides what the server does.
    pub(crate) fn prepare_spawner(self, build: Build) -> Result<()> {
        match self {
            Self::Go => Artifact::GoSpawn.prepare(build),
            _ if self.is_conet() => Artifact::Spawn.prepare(build),
            _ => Ok(()),
        }
    }

    /// Starts so many coroutines that do nothing, at most a hundred alive, and prints how long that took.
    pub(crate) fn spawner(self, count: u64) -> Result<Command> {
        let program = if self == Self::Go { Artifact::GoSpawn } else { self.artifacts()[0] };
        let mut command = Command::new(program.path()?);
        let how = if self.has_an_instance_each() { "instance" } else { "go" };
        if self.is_conet() {
            return self.conet_spawner(how, 100, count);
        }
        let count = count.to_string();
        match self {
            Self::Tokio => command.args(["spawn-tokio", &count]),
            Self::TokioMulti => command.args(["spawn-tokio", "--multi-thread", &count]),
            _ => command.arg(count),
        };
        Ok(command)
    }

    /// Starts so many instances, one after the other, each of which prints how long it was until its first instruction.
    pub(crate) fn first_instructions(self, count: u64) -> Result<Command> {
        self.conet_spawner("first", 1, count)
    }

    fn conet_spawner(self, how: &str, alive: u64, count: u64) -> Result<Command> {
        let mut command = Command::new(Artifact::Host.path()?);
        // Those and `main`.
        self.host(&mut command, 1).args(["--coroutines-max", &(alive + 1).to_string()]);
        command.arg(Artifact::Spawn.path()?).args([how, &count.to_string()]);
        Ok(command)
    }
}
