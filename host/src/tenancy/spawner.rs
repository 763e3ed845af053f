//! Places spawned coroutines: each in a fresh instance, on the worker with the fewest tasks.

use std::sync::{Arc, Weak};

use conet_rt::Handle;

use crate::{
    bindings::net::types::ErrorCode,
    config::warn::Warn,
    ids,
    imports::{
        Context,
        context::{Spawn, SpawnRequest},
    },
    sandbox::coroutine::Sandbox,
};

/// Starts a tenant's spawned coroutines.
pub struct Spawner {
    /// Weak: the sandbox's context owns the spawner.
    sandbox: Weak<Sandbox>,
    workers: Vec<Handle>,
}

impl Spawner {
    /// For a component with an entry for them.
    pub fn new(sandbox: &Arc<Sandbox>, workers: &[Handle]) -> Self {
        Self { sandbox: Arc::downgrade(sandbox), workers: workers.to_vec() }
    }
}

impl Spawn for Spawner {
    fn spawn(&self, request: SpawnRequest) -> Result<u64, ErrorCode> {
        let sandbox = self.sandbox.upgrade().ok_or(ErrorCode::ShuttingDown)?;
        let context: &Context = &sandbox.context;
        let permits = context.coroutines.try_acquire(1).zip(context.instances.try_acquire(1));
        let Some(permits) = permits else {
            context.metrics.coroutines_refused.increment();
            return Err(ErrorCode::LimitExceeded);
        };
        let Some(memory) = context.fresh_memory.try_acquire(sandbox.fresh_bytes()) else {
            context.metrics.memory_refused.increment();
            return Err(ErrorCode::LimitExceeded);
        };
        context.warn_beyond(Warn::Coroutines, &context.coroutines, "coroutines");
        context.metrics.coroutines.increment();
        let id = ids::next();
        let worker = self.workers.iter().min_by_key(|worker| worker.tasks()).expect("a host has workers");
        let group = context.group.clone();
        let start = move || async move {
            // The permits outlive the instance.
            let _permits = permits;
            sandbox.start(id, request, memory).await;
        };
        worker.spawn_in(&group, start).map_err(|_| ErrorCode::ShuttingDown)?;
        Ok(id)
    }
}
