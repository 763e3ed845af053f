//! What a pool connects to, and how it behaves.

use std::{net::SocketAddr, time::Duration};

use crate::config::limits::Limits;

/// What a pool connects to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// This address.
    Address(SocketAddr),
    /// The addresses of this name, and a port.
    Name(String, u16),
}

/// How a pool behaves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolOptions {
    /// Connections open at once, in use and idle; more `get`s wait in line. At least 1.
    pub open_max: usize,
    /// Idle connections kept.
    pub idle_max: usize,
    /// How long an idle connection is kept.
    pub idle_age_max: Duration,
    /// How old a connection may be when it is kept or goes out again; zero is as long as the tenant's limits allow.
    pub age_max: Duration,
    /// How long opening a connection may take; for whoever opens it, the pool itself does not look.
    pub connect_max: Duration,
}

/// What was asked for, cut to what the tenant may have.
pub(super) fn cut(options: Option<PoolOptions>, limits: &Limits) -> PoolOptions {
    let max = PoolOptions {
        open_max: limits.pool.open_max,
        idle_max: limits.pool.idle_max,
        idle_age_max: limits.pool.idle_age_max,
        age_max: limits.pool.age_max,
        connect_max: limits.connect_max,
    };
    let Some(asked) = options else { return max };
    let age_max = if asked.age_max.is_zero() { max.age_max } else { asked.age_max.min(max.age_max) };
    PoolOptions {
        open_max: asked.open_max.clamp(1, max.open_max.max(1)),
        idle_max: asked.idle_max.min(max.idle_max),
        idle_age_max: asked.idle_age_max.min(max.idle_age_max),
        age_max,
        connect_max: asked.connect_max.min(max.connect_max),
    }
}
