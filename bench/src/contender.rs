//! The servers that are measured.

mod artifact;
mod go;
mod known;
mod other;
mod process;
mod programs;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::serve;
pub use artifact::Build;
pub(crate) use artifact::{Artifact, target};
use known::Known;
pub use other::Other;
pub(crate) use process::{Server, output};
pub(crate) use programs::Compute;

/// An echo server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    /// The raw epoll loop in Rust.
    Epoll,
    /// The same loop in C.
    EpollC,
    /// A raw io_uring loop in Rust.
    IoUring,
    /// tokio's current-thread runtime.
    Tokio,
    /// tokio's multi-thread runtime, with one worker for the one core.
    TokioMulti,
    /// Go's net, a goroutine for each connection.
    Go,
    /// conet's runtime without the sandbox: conet-rt's example.
    Runtime,
    /// The same, on io_uring.
    RuntimeIoUring,
    /// conet, a program: all coroutines in one instance, started with `go`.
    ConetGo,
    /// The same, on io_uring.
    ConetGoIoUring,
    /// conet, a handler: an instance for each connection.
    ConetInstance,
    /// The same, on io_uring.
    ConetInstanceIoUring,
    /// lunatic, a process of its own for each connection, in WebAssembly.
    Lunatic,
    /// wasmtime's command with wasi:sockets, and wstd in the guest.
    Wasmtime,
    /// coost, coroutines in C++.
    Coost,
    /// One that the command line brings.
    #[value(skip)]
    Other(&'static Other),
}

impl Contender {
    /// All that this program knows, baselines first.
    pub const ALL: [Self; 15] = [
        Self::Epoll,
        Self::EpollC,
        Self::IoUring,
        Self::Tokio,
        Self::TokioMulti,
        Self::Go,
        Self::Runtime,
        Self::RuntimeIoUring,
        Self::ConetGo,
        Self::ConetGoIoUring,
        Self::ConetInstance,
        Self::ConetInstanceIoUring,
        Self::Lunatic,
        Self::Wasmtime,
        Self::Coost,
    ];

    /// Its name in the tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Epoll => "raw epoll, Rust",
            Self::EpollC => "raw epoll, C",
            Self::IoUring => "raw io_uring, Rust",
            Self::Tokio => "tokio, current thread",
            Self::TokioMulti => "tokio, multi-thread",
            Self::Go => "Go, net",
            Self::Runtime => "conet-rt, native",
            Self::RuntimeIoUring => "conet-rt, native, io_uring",
            Self::ConetGo => "conet, one instance (`go`)",
            Self::ConetGoIoUring => "conet, one instance (`go`), io_uring",
            Self::ConetInstance => "conet, an instance each",
            Self::ConetInstanceIoUring => "conet, an instance each, io_uring",
            Self::Other(other) => &other.name,
            Self::Lunatic | Self::Wasmtime | Self::Coost => self.known().map_or("", |known| known.label),
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        match self {
            Self::Other(other) => other.name.clone(),
            _ => self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default(),
        }
    }

    /// Whether it is conet, sandbox and all.
    pub fn is_conet(self) -> bool {
        self.artifacts().first() == Some(&Artifact::Host)
    }

    /// Whether it is conet, or its runtime, with that driver.
    pub(crate) fn is_on_io_uring(self) -> bool {
        matches!(self, Self::RuntimeIoUring | Self::ConetGoIoUring | Self::ConetInstanceIoUring)
    }

    /// Whether each of its coroutines has an instance of its own.
    pub(crate) fn has_an_instance_each(self) -> bool {
        self.artifacts().contains(&Artifact::EchoHandler)
    }

    /// Builds what it needs. Gives why it cannot run here, if that is no reason to do without the others.
    pub(crate) fn prepare(self, build: Build) -> Result<Option<String>> {
        let built = self.artifacts().iter().try_for_each(|artifact| artifact.prepare(build));
        Ok(match self {
            Self::Go => built.err().map(|error| format!("{error:#}")),
            _ if (self == Self::IoUring || self.is_on_io_uring()) && !serve::io_uring::is_available() => {
                Some("there is no io_uring here".into())
            }
            _ if self.is_on_io_uring() => {
                built?;
                (self.is_conet() && !has_drivers())
                    .then(|| "this conet-host has no option --driver io-uring".into())
            }
            Self::Other(other) if !other.is_found() => Some("its program is not found".into()),
            _ => {
                built?;
                self.known().map(Known::find).transpose()?.and_then(Result::err)
            }
        })
    }

    /// Where it listens, if it does not say so itself.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        self.other().ok()?.address
    }

    /// If this program knows nothing of it but how to start it.
    fn other(self) -> Result<Other> {
        match (self, self.known()) {
            (Self::Other(other), _) => Ok(other.clone()),
            (_, Some(known)) => known.find()?.map_err(anyhow::Error::msg),
            _ => bail!("{} is started in a way of its own", self.label()),
        }
    }

    fn known(self) -> Option<&'static Known> {
        match self {
            Self::Lunatic => Some(&known::LUNATIC),
            Self::Wasmtime => Some(&known::WASMTIME),
            Self::Coost => Some(&known::COOST),
            _ => None,
        }
    }

    /// Starts it on a free port. `host_options` are more options of `conet-host run`, which no other server
    /// sees.
    pub(crate) fn command(self, host_options: &[OsString]) -> Result<Command> {
        let [program, guest @ ..] = self.artifacts() else {
            return Ok(self.other()?.command());
        };
        let mut command = Command::new(program.path()?);
        match self {
            Self::Epoll => command.arg("serve-epoll"),
            Self::IoUring => command.arg("serve-io-uring"),
            Self::Tokio => command.arg("serve-tokio"),
            Self::TokioMulti => command.args(["serve-tokio", "--multi-thread"]),
            Self::EpollC | Self::Go => &mut command,
            Self::Runtime => command.args(["--workers", "1", "--driver", "epoll"]),
            Self::RuntimeIoUring => command.args(["--workers", "1", "--driver", "io-uring"]),
            _ if self.has_an_instance_each() => self.host(&mut command, 1).args(["--listen", ANY_PORT]),
            _ => self.host(&mut command, 1),
        };
        if self.is_conet() {
            command.args(host_options);
        }
        for guest in guest {
            command.arg(guest.path()?);
        }
        if !guest.contains(&Artifact::EchoHandler) {
            command.arg(ANY_PORT);
        }
        Ok(command)
    }

    /// Arguments of `conet-host` with which every conet runs. A driver is named if that is possible, whatever
    /// the default.
    fn host(self, command: &mut Command, workers: usize) -> &mut Command {
        command.args(["run", "--workers", &workers.to_string()]);
        match self.is_on_io_uring() {
            true => command.args(["--driver", "io-uring"]),
            false if has_drivers() => command.args(["--driver", "epoll"]),
            false => command,
        }
    }

    /// The program, then the guest.
    fn artifacts(self) -> &'static [Artifact] {
        match self {
            Self::Epoll | Self::IoUring | Self::Tokio | Self::TokioMulti => &[Artifact::Bench],
            Self::EpollC => &[Artifact::EpollC],
            Self::Go => &[Artifact::Go],
            Self::Runtime | Self::RuntimeIoUring => &[Artifact::Runtime],
            Self::ConetGo | Self::ConetGoIoUring => &[Artifact::Host, Artifact::Echo],
            Self::ConetInstance | Self::ConetInstanceIoUring => &[Artifact::Host, Artifact::EchoHandler],
            Self::Lunatic | Self::Wasmtime | Self::Coost | Self::Other(_) => &[],
        }
    }
}

/// Whether the host can be told which driver to use. Asked once: it does not change meanwhile.
fn has_drivers() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let help = Artifact::Host.path().map(|host| Command::new(host).args(["run", "--help"]).output());
        let Ok(Ok(help)) = help else { return false };
        knows_drivers(&String::from_utf8_lossy(&help.stdout))
    })
}

fn knows_drivers(help: &str) -> bool {
    help.contains("--driver") && help.contains("io-uring")
}

const ANY_PORT: &str = "127.0.0.1:0";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(contender: Contender) -> String {
        let command = contender.command(&["--quiet".into()]).expect("a place for its files");
        command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn drivers_are_offered_by_a_host_that_knows_them() {
        assert!(knows_drivers("  --driver <DRIVER>  How to wait [possible values: epoll, io-uring]"));
        assert!(!knows_drivers("  --workers <N>  Worker threads"));
    }

    #[test]
    fn options_of_the_host_go_before_the_guest_and_to_no_other_server() {
        assert!(words(Contender::ConetGo).starts_with("run --workers 1 --quiet "));
        assert!(words(Contender::ConetGo).ends_with("echo.wasm 127.0.0.1:0"));
        let handler = words(Contender::ConetInstanceIoUring);
        assert!(
            handler.starts_with("run --workers 1 --driver io-uring --listen 127.0.0.1:0 --quiet "),
            "{handler}"
        );
        assert!(handler.ends_with("echo-handler.wasm"), "{handler}");
        assert_eq!(words(Contender::RuntimeIoUring), "--workers 1 --driver io-uring 127.0.0.1:0");
        assert_eq!(words(Contender::TokioMulti), "serve-tokio --multi-thread 127.0.0.1:0");
        assert_eq!(words(Contender::EpollC), "127.0.0.1:0");
    }
}
