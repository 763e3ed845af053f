//! What the versions of a tenant have in common while one takes the other's place: a reload gives none of its limits twice.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Context, admission::Counts};
use crate::{
    access_log::lines_rate, bandwidth::Bandwidth, config::warn::Warn, guest_log, log_gate::LogGate,
    pool::Pools, quota::Quota, rate::Rate,
};

/// It. The limits are the newest version's, as [`hold_to`](Commons::hold_to) says.
pub struct Commons {
    /// Accepted connections.
    pub connections: Arc<Quota>,
    /// Of them, those of each address.
    pub addresses: Arc<Counts>,
    /// Opened connections.
    pub outbound: Arc<Quota>,
    /// Coroutines.
    pub coroutines: Arc<Quota>,
    /// Bytes of instances that have one coroutine. Those of lasting ones each version has for itself: its instance has to begin before
    /// the other one's ends.
    pub fresh_memory: Arc<Quota>,
    /// Accepts in a second.
    pub accepts: Arc<Rate>,
    /// Lookups in a second.
    pub lookups: Arc<Rate>,
    /// Bytes that guests print in a second.
    pub log_bytes: Arc<Rate>,
    /// Lines of the access log in a second.
    pub access_lines: Arc<Rate>,
    /// Bytes received in a second.
    pub(super) receiving: Arc<Bandwidth>,
    /// Bytes sent in a second.
    pub(super) sending: Arc<Bandwidth>,
    /// Lets lines of the host's about it into the log.
    pub log_gate: LogGate,
    /// Of all versions: what is idle in one makes room for another.
    pools: Mutex<Vec<Weak<Pools>>>,
}

impl Commons {
    /// Those of a tenant's first version, whose limits are to be said before it begins.
    pub fn new() -> Arc<Self> {
        let quota = || Quota::new(u64::MAX);
        let rate = || Arc::new(Rate::new(1, 1));
        Arc::new(Self {
            connections: quota(),
            addresses: Arc::default(),
            outbound: quota(),
            coroutines: quota(),
            fresh_memory: quota(),
            accepts: rate(),
            lookups: rate(),
            log_bytes: rate(),
            access_lines: lines_rate(),
            receiving: Bandwidth::new(1),
            sending: Bandwidth::new(1),
            log_gate: LogGate::default(),
            pools: Mutex::default(),
        })
    }

    /// All versions together are held to the limits of this one from now on. What it does not limit is as it was, for those that do.
    pub fn hold_to(&self, version: &Context) {
        let limits = &version.limits;
        let of = |max: usize, warn| if version.warnings.lets_pass(warn) { u64::MAX } else { max as u64 };
        self.connections.set_max(of(limits.connections_max, Warn::Connections));
        self.outbound.set_max(of(limits.outbound_max, Warn::Outbound));
        self.coroutines.set_max(of(limits.coroutines_max, Warn::Coroutines));
        self.fresh_memory.set_max(of(limits.tenant_memory_bytes_max, Warn::TenantMemory));
        if let Some(rate) = limits.accepts_per_second_max {
            // A tenth of a second's at once: a burst longer than that is a flood.
            self.accepts.set(rate as u64, rate.div_ceil(10) as u64);
        }
        if let Some(rate) = limits.lookups_per_second_max {
            // A second's at once: programs look up what they need at their start.
            self.lookups.set(rate as u64, rate as u64);
        }
        let rate = limits.log_bytes_per_second_max as u64;
        self.log_bytes.set(rate, rate.saturating_mul(guest_log::BURST_SECONDS));
        if let Some(rate) = limits.bandwidth.tenant_in_max {
            self.receiving.set(rate);
        }
        if let Some(rate) = limits.bandwidth.tenant_out_max {
            self.sending.set(rate);
        }
    }

    /// With the pools of one more version.
    pub fn add_pools(&self, pools: &Arc<Pools>) {
        let mut all = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|pools| pools.strong_count() > 0);
        all.push(Arc::downgrade(pools));
    }

    /// Closes a connection that is idle in a pool of any version, the oldest one's first; false if none is.
    pub(super) fn close_oldest_idle(&self) -> bool {
        let all = self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.iter().filter_map(Weak::upgrade).any(|pools| pools.close_oldest_idle())
    }
}
