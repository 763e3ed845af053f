//! `[host]`: the process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde_spanned::Spanned;
use toml::de::DeValue;

use super::{
    otlp::OtlpSection,
    problems::Found,
    section::section,
    setting::{At, Count, Setting},
};
use crate::config::{
    driver::Driver,
    wall::{CallFilter, Capabilities, Guard},
};

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
        /// Where a line is written for each connection that ends: into a file, among the host's messages (`stderr`), or nowhere. SIGHUP
        /// has the file opened anew. Where it is, is taken from here at the start alone.
        "access-log": access_log: AccessLogAt = "`\"off\"`",
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
        /// A collector that metrics are sent to.
        "otlp": otlp: OtlpSection = "none",
        /// The user to go on as once all listeners are bound, by name or number: for a host that root starts.
        /// docs/security.md tells of this key and the next seven. What they say holds from the host's start on, and a
        /// reload does not change it.
        "user": user: String = "who starts the host",
        /// The group that goes with `user`.
        "group": group: String = "the user's own groups",
        /// What is kept of root's powers once all listeners are bound. `net-bind-service` lets a program, or a reload, listen
        /// on ports below 1024.
        "capabilities": capabilities: Capabilities = "`\"none\"`",
        /// Nothing that the host starts can gain privileges. `seccomp` and `landlock` need it.
        "no-new-privs": no_new_privs: Guard = "`true`",
        /// System calls that the host has no use for fail. `log` lets them pass, and the kernel's log tells of them.
        "seccomp": seccomp: CallFilter = "`true`",
        /// Files outside of what the file names are out of reach: read are the folders of this file, of components,
        /// secrets and granted `dirs`, and what looking names up takes; written are `cache` and `dirs`.
        "landlock": landlock: Guard = "`true`",
        /// More that a later reload may have to read, as the folder that components will come to lie in.
        "readable": readable: Vec<PathBuf> = "`[]`",
        /// More that a later reload may have to write, as folders that `dirs` will come to name.
        "writable": writable: Vec<PathBuf> = "`[]`",
    }
}

impl HostSection {
    /// What workers and Engines are made by, as text: the same for the same.
    pub fn fingerprint(&self) -> String {
        let Self { workers, driver, cache, shared_instances, .. } = self;
        format!(
            "{:?} {:?} {:?} {:?}",
            workers.as_ref().map(|at| at.value),
            driver.as_ref().map(|at| at.value),
            cache.as_ref().map(|at| &at.value),
            shared_instances.as_ref().map(|at| at.value),
        )
    }

    /// What the wall is made by, as text: the same for the same.
    pub fn wall_fingerprint(&self) -> String {
        let Self { user, group, capabilities, no_new_privs, seccomp, landlock, readable, writable, .. } =
            self;
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            user.as_ref().map(|at| &at.value),
            group.as_ref().map(|at| &at.value),
            capabilities.as_ref().map(|at| at.value),
            no_new_privs.as_ref().map(|at| at.value),
            seccomp.as_ref().map(|at| at.value),
            landlock.as_ref().map(|at| at.value),
            readable.as_ref().map(|at| &at.value),
            writable.as_ref().map(|at| &at.value),
        )
    }

    /// Paths are relative to `folder`. What does not go together is noted.
    pub(super) fn settle_wall(&mut self, folder: &Path, found: &Found) {
        for paths in [&mut self.readable, &mut self.writable].into_iter().flatten() {
            paths.value.iter_mut().for_each(|path| *path = folder.join(&*path));
        }
        if let (None, Some(group)) = (&self.user, &self.group) {
            found.add(group.span.clone(), "`group` goes with `user`: write that, too");
        }
        let off = |guard: &At<Guard>| guard.value == Guard::Off;
        let others = self.landlock.as_ref().is_some_and(off)
            && self.seccomp.as_ref().is_some_and(|at| at.value == CallFilter::Off);
        if let Some(privileges) = self.no_new_privs.as_ref().filter(|at| off(at) && !others) {
            let text = "the kernel has seccomp and landlock only with no-new-privs: write `seccomp = false` and \
                        `landlock = false`, too, or leave this out";
            found.add(privileges.span.clone(), text);
        }
    }
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogAt {
    /// Nowhere.
    Off,
    /// Among the host's messages.
    Stderr,
    /// Into this file.
    File(PathBuf),
}

impl Setting for AccessLogAt {
    const WRITTEN: &'static str = "`\"stderr\"`, `\"off\"`, or a file's path, relative to this file's folder";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let path = PathBuf::read(value, found)?;
        Some(match path.to_str() {
            Some("off") => AccessLogAt::Off,
            Some("stderr") => AccessLogAt::Stderr,
            _ => AccessLogAt::File(path),
        })
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
