//! The servers that take turns.

mod artifact;
mod process;

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use artifact::Artifact;
pub use artifact::Build;
pub(crate) use artifact::target;
pub(crate) use process::Server;

/// An echo server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    /// The raw epoll loop in Rust: what the ratios are taken against.
    Epoll,
    /// The same loop in C.
    EpollC,
    /// tokio on one thread.
    Tokio,
    /// conet's runtime without the sandbox: conet-rt's example.
    Runtime,
    /// conet, a program: all coroutines in one instance, started with `go`.
    ConetGo,
    /// conet, a handler: an instance for each connection.
    ConetInstance,
}

impl Contender {
    /// All of them, baselines first.
    pub const ALL: [Self; 6] =
        [Self::Epoll, Self::EpollC, Self::Tokio, Self::Runtime, Self::ConetGo, Self::ConetInstance];

    /// Its name in the tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Epoll => "raw epoll, Rust",
            Self::EpollC => "raw epoll, C",
            Self::Tokio => "tokio, current thread",
            Self::Runtime => "conet-rt, native",
            Self::ConetGo => "conet, one instance (`go`)",
            Self::ConetInstance => "conet, an instance each",
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Builds what it needs.
    pub(crate) fn prepare(self, build: Build) -> Result<()> {
        self.artifacts().iter().try_for_each(|artifact| artifact.prepare(build))
    }

    /// Starts it on a free port. `host_options` are more options of `conet-host run`, which no other server sees.
    pub(crate) fn command(self, host_options: &[OsString]) -> Result<Command> {
        let [program, rest @ ..] = self.artifacts() else { unreachable!("every server has a program") };
        let mut command = Command::new(program.path()?);
        match self {
            Self::Epoll => command.args(["serve-epoll", ANY_PORT]),
            Self::EpollC => command.arg(ANY_PORT),
            Self::Tokio => command.args(["serve-tokio", ANY_PORT]),
            Self::Runtime => command.args(["--workers", "1", ANY_PORT]),
            Self::ConetGo => command.args(["run", "--workers", "1"]).args(host_options),
            Self::ConetInstance => {
                command.args(["run", "--workers", "1", "--listen", ANY_PORT]).args(host_options)
            }
        };
        for guest in rest {
            command.arg(guest.path()?);
        }
        if self == Self::ConetGo {
            command.arg(ANY_PORT);
        }
        Ok(command)
    }

    /// The program, then the guest.
    fn artifacts(self) -> &'static [Artifact] {
        match self {
            Self::Epoll | Self::Tokio => &[Artifact::Bench],
            Self::EpollC => &[Artifact::EpollC],
            Self::Runtime => &[Artifact::Runtime],
            Self::ConetGo => &[Artifact::Host, Artifact::Echo],
            Self::ConetInstance => &[Artifact::Host, Artifact::EchoHandler],
        }
    }
}

const ANY_PORT: &str = "127.0.0.1:0";
