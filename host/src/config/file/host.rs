//! `[host]`: the process.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use serde_spanned::Spanned;
use toml::de::DeValue;

use super::{
    problems::Found,
    section::section,
    setting::{Count, Setting},
};
use crate::config::driver::Driver;

section! {
    /// The process, and what all tenants share.
    pub struct HostSection {
        /// Worker threads.
        "workers": workers: Count = "one for each core",
        /// What workers wait for their sockets with; `auto` is io_uring where the kernel has it and it is allowed.
        "driver": driver: Driver = "`\"auto\"`",
        /// Where compiled code is kept: a folder of this user alone. `off` keeps none.
        "cache": cache: PathBuf = "`conet` in the user's cache folder",
        /// How the host's own messages are written to stderr.
        "log-format": log_format: LogFormat = "`\"text\"`",
        /// Tenants may have coroutines that share an instance: programs of the Rust SDK, and handlers with
        /// `isolation = "shared"`. It switches on parts of wasmtime that are not in the first tier of its support,
        /// for all tenants.
        "shared-instances": shared_instances: bool = "`false`",
        /// A Unix socket for this user alone, where the host tells of itself and takes commands, over HTTP. It is removed
        /// at the end; the commands `tenants`, `top`, `reload` and `drain` of `conet-host` connect to it.
        "admin": admin: PathBuf = "none",
        /// An address of loopback, where the host tells of itself, as to Prometheus or a browser. It asks nobody for a
        /// name or a password, so it takes no commands.
        "admin-address": admin_address: SocketAddr = "none",
        /// An address, of any interface, that answers `/healthz`, `/readyz` and `/metrics` and nothing else: for the probes of
        /// an orchestrator and for Prometheus, where they come from other machines. Whoever reaches it reads tenants' names and
        /// counts.
        "probe-address": probe_address: SocketAddr = "none",
    }
}

impl HostSection {
    /// What workers and Engines are made by, as text: the same for the same.
    pub fn fingerprint(&self) -> String {
        let Self {
            workers,
            driver,
            cache,
            log_format: _,
            shared_instances,
            admin: _,
            admin_address: _,
            probe_address: _,
        } = self;
        format!(
            "{:?} {:?} {:?} {:?}",
            workers.as_ref().map(|at| at.value),
            driver.as_ref().map(|at| at.value),
            cache.as_ref().map(|at| &at.value),
            shared_instances.as_ref().map(|at| at.value),
        )
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object each.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("`{text}` is not a log format: write `text` or `json`")),
        }
    }
}

impl Setting for LogFormat {
    const WRITTEN: &'static str = "`\"text\"` or `\"json\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let text = String::read(value, found)?;
        text.parse().map_err(|error: String| found.add(value.span(), error)).ok()
    }
}
