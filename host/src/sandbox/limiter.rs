//! Memory of a store and of its tenant, summed over all memories and tables: wasmtime's own limiter counts each alone.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::{
    config::{units::show_size, warn::Warn},
    imports::Context,
    quota::Permit,
    roster::Instance,
};

/// Counts a store's memories and tables against the store's limit and the tenant's.
pub struct Limiter {
    context: Arc<Context>,
    store_bytes_max: u64,
    /// What the store holds of the tenant's memory; none before the first byte.
    held: Option<Permit>,
    /// Of it, what was taken before there was anything to hold, and is not needed yet.
    reserved_bytes: u64,
    /// Told of it, if somebody may want to see it.
    pub(super) instance: Option<Arc<Instance>>,
    /// Of it, what the growth under way asked for: it goes back if wasmtime then cannot do it.
    growing_bytes: u64,
}

impl Limiter {
    /// A limiter for a store that may hold `store_bytes_max`. What it begins with may have been taken for it already.
    pub fn new(context: Arc<Context>, store_bytes_max: u64, reserved: Option<Permit>) -> Self {
        let reserved_bytes = reserved.as_ref().map_or(0, Permit::units);
        Self { context, store_bytes_max, held: reserved, reserved_bytes, instance: None, growing_bytes: 0 }
    }

    /// Bytes the store holds.
    pub fn bytes(&self) -> u64 {
        self.held.as_ref().map_or(0, Permit::units) - self.reserved_bytes
    }

    /// The instance has been made: what was taken for it and is not needed goes back.
    pub fn settle(&mut self) {
        let rest = std::mem::take(&mut self.reserved_bytes);
        if let Some(held) = self.held.as_mut().filter(|_| rest > 0) {
            held.shrink(rest);
        }
    }

    fn grow(&mut self, bytes: u64) -> bool {
        let fits = self.bytes().checked_add(bytes).is_some_and(|after| after <= self.store_bytes_max);
        let reserved = self.reserved_bytes.min(bytes);
        let more = bytes - reserved;
        let granted = fits
            && match &mut self.held {
                Some(held) => more == 0 || held.grow(more),
                None => {
                    self.held = self.context.memory.try_acquire(more);
                    self.held.is_some()
                }
            };
        if granted {
            self.reserved_bytes -= reserved;
            if let Some(used) = self.context.memory.beyond() {
                let line = show_size(used.next_multiple_of(1 << 20));
                let what = format_args!("{used} bytes of memory");
                self.context.warnings.would_deny(Warn::TenantMemory, what, format_args!("{line:?}"));
            }
            self.growing_bytes = bytes;
            self.tell();
        } else {
            self.context.metrics.memory_refused.increment();
        }
        granted
    }

    fn tell(&self) {
        if let Some(instance) = &self.instance {
            instance.set_memory(self.bytes());
        }
    }

    fn take_back(&mut self) {
        if let Some(held) = &mut self.held {
            held.shrink(std::mem::take(&mut self.growing_bytes));
        }
        self.tell();
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
pub(super) const ELEMENT_BYTES: usize = size_of::<usize>();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limits::Limits;

    #[test]
    fn what_was_reserved_is_used_first_and_the_rest_goes_back() {
        let context = Context::test(Limits { tenant_memory_bytes_max: 100, ..Limits::default() });
        let memory = context.memory.clone();
        let mut limiter = Limiter::new(context, 90, memory.try_acquire(50));
        assert_eq!((limiter.bytes(), memory.used()), (0, 50));
        assert!(limiter.grow(20) && limiter.grow(20));
        assert_eq!((limiter.bytes(), memory.used()), (40, 50));
        assert!(limiter.grow(20), "ten of the rest, ten more");
        assert_eq!((limiter.bytes(), memory.used()), (60, 60));
        limiter.take_back();
        assert_eq!((limiter.bytes(), memory.used()), (40, 40));
        assert!(!limiter.grow(51), "beyond the store's");
        limiter.settle();
        drop(limiter);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn what_was_reserved_and_not_needed_is_not_kept() {
        let context = Context::test(Limits { tenant_memory_bytes_max: 100, ..Limits::default() });
        let memory = context.memory.clone();
        let mut limiter = Limiter::new(context, 90, memory.try_acquire(50));
        assert!(limiter.grow(20));
        limiter.settle();
        assert_eq!((limiter.bytes(), memory.used()), (20, 20));
        assert!(!limiter.grow(71) && limiter.grow(70));
    }
}
