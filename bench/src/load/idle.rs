//! Connections that do nothing.

use std::net::SocketAddr;
use std::sync::LazyLock;

use anyhow::{Context, Result};

use super::Plan;
use super::generator::Generator;
use super::pattern::Pattern;

/// Connections that have each had one echo and stay open until dropped.
pub struct Idle {
    _generator: Generator<'static>,
}

impl Idle {
    /// Opens `connections` to `server`, from the calling thread.
    pub fn open(server: SocketAddr, connections: usize) -> Result<Self> {
        static PATTERN: LazyLock<Pattern> = LazyLock::new(Pattern::new);
        let plan = Plan::new(server, connections);
        plan.check()?;
        let mut generator = Generator::new(&plan, 0, &PATTERN)?;
        generator.ramp().context("the connections could not be opened")?;
        Ok(Self { _generator: generator })
    }
}
