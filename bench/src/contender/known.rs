//! Servers of other projects, which take part where somebody has installed them.

use std::env;

use anyhow::{Context, Result};

use super::other::{self, Other};

/// One of them, and how it is come by.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) label: &'static str,
    /// The environment variable with its command, as for `--also`.
    variable: &'static str,
    /// The runtime's own program, if it has one that runs a guest.
    program: Option<&'static str>,
    how: &'static str,
}

impl Known {
    /// The server, or why it cannot take part and what would help.
    pub(super) fn find(&self) -> Result<Result<Other, String>> {
        let Self { variable, how, .. } = self;
        let Some(command) = env::var_os(variable).filter(|command| !command.is_empty()) else {
            let program = self.program.filter(|program| other::is_found(program));
            let found = program.map_or("not found".into(), |program| {
                format!("{program} is found, its echo server is not named")
            });
            return Ok(Err(format!("{found}: {how}")));
        };
        let server = format!("{}@{}", self.label, command.to_string_lossy());
        let server: Other =
            server.parse().with_context(|| format!("{variable} is not ADDRESS:PORT=COMMAND"))?;
        Ok(if server.is_found() {
            Ok(server)
        } else {
            Err(format!("the program that {variable} names is not found"))
        })
    }
}

pub(super) const LUNATIC: Known = Known {
    label: "lunatic",
    variable: "CONET_BENCH_LUNATIC",
    program: Some("lunatic"),
    how: "`cargo install lunatic-runtime`, build an echo guest with lunatic-rs for wasm32-wasi, and set \
          CONET_BENCH_LUNATIC='127.0.0.1:7401=lunatic run ECHO.wasm' with the address that the guest binds",
};

pub(super) const WASMTIME: Known = Known {
    label: "wasmtime, wstd",
    variable: "CONET_BENCH_WASMTIME",
    program: Some("wasmtime"),
    how: "`cargo install wasmtime-cli`, build wstd's example tcp_echo_server for wasm32-wasip2, and set \
          CONET_BENCH_WASMTIME='127.0.0.1:8080=wasmtime run -Sinherit-network -Stcp ECHO.wasm'",
};

pub(super) const COOST: Known = Known {
    label: "coost",
    variable: "CONET_BENCH_COOST",
    program: None,
    how: "build https://github.com/idealvin/coost and an echo server of a coroutine for each connection with it, and set \
          CONET_BENCH_COOST='127.0.0.1:7402=./echo-coost' with the address that it binds",
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody sets these variables; the real ones may be set.
    #[test]
    fn what_is_missing_is_told_with_how_to_have_it() {
        let missing = Known { variable: "CONET_BENCH_NO_SUCH_SERVER", ..LUNATIC };
        let reason = missing.find().expect("no command is none that is wrong").expect_err("it is missing");
        assert!(reason.contains("cargo install lunatic-runtime"), "{reason}");
        let found = Known { program: Some("sh"), ..missing };
        let reason = found.find().expect("as before").expect_err("it has no guest");
        assert!(reason.starts_with("sh is found, its echo server is not named: "), "{reason}");
    }
}
