//! Memory of a store and of its tenant, summed over all memories and tables: wasmtime's own limiter counts each alone.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::{imports::Context, quota::Permit};

/// Counts a store's memories and tables against the store's limit and the tenant's.
pub struct Limiter {
    context: Arc<Context>,
    store_bytes_max: u64,
    /// What the store holds of the tenant's memory; none before the first byte.
    held: Option<Permit>,
    /// Of it, what the growth under way asked for: it goes back if wasmtime then cannot do it.
    growing_bytes: u64,
}

impl Limiter {
    /// A limiter for a store that may hold `store_bytes_max`.
    pub fn new(context: Arc<Context>, store_bytes_max: u64) -> Self {
        Self { context, store_bytes_max, held: None, growing_bytes: 0 }
    }

    /// Bytes the store holds.
    pub fn bytes(&self) -> u64 {
        self.held.as_ref().map_or(0, Permit::units)
    }

    fn grow(&mut self, bytes: u64) -> bool {
        let fits = self.bytes().checked_add(bytes).is_some_and(|after| after <= self.store_bytes_max);
        let granted = fits
            && match &mut self.held {
                Some(held) => held.grow(bytes),
                None => {
                    self.held = self.context.memory.try_acquire(bytes);
                    self.held.is_some()
                }
            };
        if granted {
            self.growing_bytes = bytes;
        } else {
            self.context.metrics.memory_refused.increment();
        }
        granted
    }

    fn take_back(&mut self) {
        if let Some(held) = &mut self.held {
            held.shrink(std::mem::take(&mut self.growing_bytes));
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|max| desired <= max) && self.grow((desired - current) as u64))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.context.limits.table_elements_max || maximum.is_some_and(|max| desired > max) {
            self.context.metrics.memory_refused.increment();
            return Ok(false);
        }
        Ok(self.grow(((desired - current) * ELEMENT_BYTES) as u64))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        self.context.limits.core_instances_max
    }

    fn tables(&self) -> usize {
        self.context.limits.tables_max
    }

    fn memories(&self) -> usize {
        self.context.limits.memories_max
    }
}

/// A table element is a pointer.
const ELEMENT_BYTES: usize = size_of::<usize>();
