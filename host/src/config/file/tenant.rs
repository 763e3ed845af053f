//! `[[tenant]]` and `[defaults]`.

use std::{collections::BTreeMap, net::SocketAddr, ops::Range, path::PathBuf, str::FromStr};

use serde_spanned::Spanned;
use toml::de::DeValue;

use super::{
    limits::LimitsSection,
    problems::Found,
    rollback::RollbackRule,
    section::{Read, section},
    setting::{At, Count, Name, Setting, Sha256},
    table::Table,
};
use crate::config::{
    net::{Cidr, ConnectGrant, ListenGrant},
    tenant::{DirGrant, Instances, Isolation},
    warn::Warn,
};

section! {
    /// A component, and who it is run for.
    pub(super) struct IdentitySection {
        /// In logs, counters and commands. Each is there once.
        "name": name: Name = "",
        /// The component's file.
        "component": component: PathBuf = "",
        /// What the file must be: another one is refused.
        "sha256": sha256: Sha256 = "not looked at",
        /// Where the host listens for a handler. Itself the grant to do so. A program listens itself, where
        /// `allow-listen` lets it.
        "listen": listen: Vec<At<SocketAddr>> = "nowhere: a handler needs one",
        /// The guest's arguments, after its own name.
        "args": args: Vec<String> = "none",
    }
}

section! {
    /// What a tenant is given and how it is run. In `[defaults]` it is for all tenants that do not say it themselves:
    /// what one says replaces what stands there, lists and tables as a whole.
    pub(super) struct CommonSection {
        /// What a handler's connections share: nothing, or the instance of their worker.
        "isolation": isolation: Isolation = "`\"connection\"`",
        /// Copies of a program; they share listening sockets and nothing else.
        "instances": instances: Instances = "`\"1\"`",
        /// The guest's environment.
        "env": env: BTreeMap<String, String> = "empty",
        /// Variables of the guest's environment whose values are in files, without the newline at their ends.
        "secrets": secrets: BTreeMap<String, PathBuf> = "none",
        /// Folders that the guest may open, and where it sees them.
        "dirs": dirs: Vec<DirGrant> = "none",
        /// Where the guest may listen.
        "allow-listen": allow_listen: Vec<ListenGrant> = "nowhere",
        /// Where the guest may connect to.
        "allow-connect": allow_connect: Vec<ConnectGrant> = "nowhere",
        /// Proxies in front of the tenant. Each connection to it begins with a header of the PROXY protocol, version 1 or 2,
        /// that says whose it is, and the guest, its limits and the logs go by that. Others than these are reset: who
        /// may send a header can pass for anybody.
        "proxy-protocol-from": proxy_protocol_from: Vec<Cidr> = "nobody: connections are their peers' own",
        /// Grants and limits that only warn: what they would deny passes, is counted, and logged with the line that would
        /// allow it.
        "warn": warn: Vec<Warn> = "none: all deny",
        /// Its share of the workers' time, beside the other tenants'.
        "weight": weight: Count = "1",
        /// When a program is started again after it has ended.
        "restart": restart: Restart = "`\"always\"`",
        /// When a new version of it gives way to the one before.
        "rollback": rollback: RollbackRule = "with the table's defaults",
    }
}

/// `[[tenant]]`.
#[derive(Debug)]
pub(super) struct TenantSection {
    pub(super) identity: IdentitySection,
    pub(super) common: CommonSection,
    pub(super) limits: LimitsSection,
    /// Keys that it must have, and has not.
    pub(super) missing: Vec<&'static str>,
    /// Where it begins.
    pub(super) span: Range<usize>,
}

impl Read for TenantSection {
    fn read(table: &Table<'_>) -> Self {
        Self {
            identity: IdentitySection::read(table),
            common: CommonSection::read(table),
            limits: table.section("limits", "[tenant.limits]").unwrap_or_default(),
            missing: ["name", "component"].into_iter().filter(|key| !table.has(key)).collect(),
            span: table.span(),
        }
    }
}

/// `[defaults]`.
#[derive(Debug, Default)]
pub(super) struct DefaultsSection {
    pub(super) common: CommonSection,
    pub(super) limits: LimitsSection,
}

impl Read for DefaultsSection {
    fn read(table: &Table<'_>) -> Self {
        Self {
            common: CommonSection::read(table),
            limits: table.section("limits", "[defaults.limits]").unwrap_or_default(),
        }
    }
}

/// When a program is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Whenever it has ended.
    #[default]
    Always,
    /// When it has trapped, or ended with an error.
    OnFailure,
    /// Never.
    Never,
}

impl FromStr for Restart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Restart::Always),
            "on-failure" => Ok(Restart::OnFailure),
            "never" => Ok(Restart::Never),
            _ => Err(format!("`{text}` is not a restart policy: write {}", <Self as Setting>::WRITTEN)),
        }
    }
}

impl Setting for Restart {
    const WRITTEN: &'static str = "`\"always\"`, `\"on-failure\"` or `\"never\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let text = String::read(value, found)?;
        text.parse().map_err(|error: String| found.add(value.span(), error)).ok()
    }
}
