//! A server that this program knows nothing of but how to start it.

use std::net::SocketAddr;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, ensure};

/// An echo server from the command line: `NAME=COMMAND`, or `NAME@ADDRESS=COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its name in the tables.
    pub name: String,
    /// Where it will listen, unless it writes `listening on ADDRESS` to its standard error.
    pub address: Option<SocketAddr>,
    /// Program and arguments, without a shell between.
    command: Vec<String>,
}

impl Other {
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }

    /// Whether its program is there to be started.
    pub(super) fn is_found(&self) -> bool {
        is_found(&self.command[0])
    }
}

/// Whether a program is there, at its path or in a folder of the PATH.
pub(super) fn is_found(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    // A name with a slash replaces the folder it is joined to, or stands for itself.
    program.contains('/') && std::fs::exists(program).unwrap_or(false)
        || std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

impl FromStr for Other {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (server, command) = text.split_once('=').context("not NAME=COMMAND")?;
        let (name, address) = match server.split_once('@') {
            None => (server, None),
            Some((name, address)) => (name, Some(address.parse().context("not ADDRESS:PORT after the @")?)),
        };
        let command: Vec<String> = command.split_whitespace().map(String::from).collect();
        ensure!(!name.is_empty() && !command.is_empty(), "not NAME=COMMAND");
        Ok(Self { name: name.into(), address, command })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_optional() {
        let other: Other = "lunatic@127.0.0.1:7401=lunatic run echo.wasm".parse().expect("well-formed");
        assert_eq!((other.name.as_str(), other.command.len()), ("lunatic", 3));
        assert_eq!(other.address, Some(SocketAddr::from(([127, 0, 0, 1], 7401))));
        let other: Other = "mine=./server 127.0.0.1:0 --a=b".parse().expect("well-formed");
        assert_eq!((other.address, other.command[2].as_str()), (None, "--a=b"));
        for wrong in ["", "mine", "mine=", "=server", "mine@here=server"] {
            assert!(wrong.parse::<Other>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_program_is_looked_for_on_the_path() {
        let found = |command: &str| format!("x={command}").parse::<Other>().expect("well-formed").is_found();
        assert!(found("sh -c true") && found("/bin/sh"));
        assert!(!found("no-such-server-anywhere") && !found("/no/such/server"));
    }
}
