//! What is told of the host and its tenants: what the JSON has, and what clients read.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use super::Process;
use crate::{
    metrics::CallHistogram,
    pool::{Discard, PoolStats},
    quota::Quota,
};

/// The whole process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostStatus {
    /// Conet's.
    pub version: String,
    /// How far it is.
    pub phase: Phase,
    /// Since it began to start.
    pub uptime_seconds: f64,
    /// Threads that run guests.
    pub workers: usize,
    /// How each of them keeps up. In `/metrics` alone.
    #[serde(skip)]
    pub loads: Vec<WorkerLoad>,
    /// What has been counted for all tenants together, by name.
    pub counters: BTreeMap<String, u64>,
    /// Times a collector of OpenTelemetry has taken the metrics.
    pub exports: u64,
    /// Times that failed.
    pub export_failures: u64,
    /// What the system tells of it.
    pub process: Process,
}

/// How a worker keeps up.
#[derive(Debug, Clone)]
pub struct WorkerLoad {
    /// Operations on sockets that have not come to anything.
    pub in_flight: usize,
    /// When it did not look at its sockets for too long.
    pub stalls: CallHistogram,
}

/// How far the host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Components are compiled, listeners come up.
    Starting,
    /// All listeners of the host accept.
    Ready,
    /// The next version gets ready, or has taken over: this one's listeners accept, or that one's.
    Upgrading,
    /// A signal has come.
    Draining,
}

impl Phase {
    /// All listeners of the host accept.
    pub(super) fn accepts(self) -> bool {
        matches!(self, Phase::Ready | Phase::Upgrading)
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Upgrading => "upgrading",
            Phase::Draining => "draining",
        }
    }
}

/// A tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TenantStatus {
    /// As in the file.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What its component is run as.
    pub role: String,
    /// Where it listens.
    pub listeners: Vec<SocketAddr>,
    /// Its share of the workers' time, beside the others'.
    pub weight: u32,
    /// CPU time used.
    pub cpu_seconds: f64,
    /// Accepted connections.
    pub connections: Meter,
    /// Opened connections.
    pub outbound: Meter,
    /// Coroutines.
    pub coroutines: Meter,
    /// Besides them, those of its versions from before the file was read again, which finish.
    pub older_coroutines: u64,
    /// Instances.
    pub instances: Meter,
    /// Memories and tables.
    pub memory_bytes: Meter,
    /// Connections kept open.
    pub pools: PoolStatus,
    /// What has been counted, by name.
    pub counters: BTreeMap<String, u64>,
    /// Accepted connections that have ended, by how.
    #[serde(default)]
    pub closed: BTreeMap<String, u64>,
    /// Grants and limits that only warn, each with what it would have denied.
    #[serde(default)]
    pub would_deny: BTreeMap<String, u64>,
    /// Times a new version of it has given way to the one before.
    #[serde(default)]
    pub rollbacks: u64,
    /// Why what the file says is not what runs, but the version before.
    #[serde(default)]
    pub rolled_back: Option<String>,
}

/// How a tenant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It runs.
    Running,
    /// Its program has ended, and is started again in a while.
    Waiting,
    /// Its program has ended for good.
    Ended,
    /// Its listener has failed, and is tried again.
    Failed,
    /// Its connections are refused, as the ones before them trapped.
    CircuitOpen,
    /// It accepts nothing new.
    Draining,
}

impl TenantStatus {
    /// A counter's count.
    pub(super) fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }
}

impl State {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Waiting => "waiting",
            State::Ended => "ended",
            State::Failed => "failed",
            State::CircuitOpen => "circuit-open",
            State::Draining => "draining",
        }
    }
}

/// A quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// Units in use.
    pub used: u64,
    /// The most there may be.
    pub limit: u64,
    /// The most there were at once.
    pub peak: u64,
}

impl From<&Quota> for Meter {
    fn from(quota: &Quota) -> Self {
        Self { used: quota.used(), limit: quota.max(), peak: quota.peak() }
    }
}

/// A tenant's connection pools together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Connections that are open.
    pub open: u64,
    /// Of them, idle.
    pub idle: u64,
    /// Connections opened so far.
    pub opened: u64,
    /// Times an idle one went out again.
    pub reused: u64,
    /// Times a `get` had to wait.
    pub waited: u64,
    /// Connections closed instead of kept, by the reason.
    pub discarded: BTreeMap<String, u64>,
}

impl From<PoolStats> for PoolStatus {
    fn from(stats: PoolStats) -> Self {
        let discarded = Discard::ALL.iter().zip(stats.discarded);
        Self {
            open: stats.open as u64,
            idle: stats.idle as u64,
            opened: stats.opened,
            reused: stats.reused,
            waited: stats.waited,
            discarded: discarded.map(|((_, why), count)| ((*why).to_owned(), count)).collect(),
        }
    }
}

/// All there is to tell: what `/tenants` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) host: HostStatus,
    pub(super) tenants: Vec<TenantStatus>,
}
