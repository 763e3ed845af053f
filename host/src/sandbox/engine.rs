//! The one Engine: what it compiles with, and how much room its pool has.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::config::limits::Limits;

/// What an Engine must have room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Coroutines may share instances: concurrency and stackful lifts are on.
    pub fibers: bool,
    /// Guest code looks at the epoch, and so ends its slice and its CPU budget. Without it nothing does that for it.
    pub preemption: bool,
    /// Instances at once.
    pub instances_max: u32,
    /// Coroutines at once, each with a stack.
    pub coroutines_max: u32,
    /// The largest memory any instance may have.
    pub memory_bytes_max: usize,
    /// Stack that a guest's own frames may use.
    pub wasm_stack_bytes: usize,
    /// A coroutine's whole stack, host frames included.
    pub fiber_stack_bytes: usize,
    /// Memories of a component.
    pub memories_max: u32,
    /// Tables of a component.
    pub tables_max: u32,
    /// Core instances of a component.
    pub core_instances_max: u32,
    /// Elements of a table.
    pub table_elements_max: usize,
}

impl EngineOptions {
    /// Options for instances with these limits.
    pub fn new(limits: &Limits, fibers: bool, instances_max: u32, memory_bytes_max: usize) -> Self {
        Self {
            fibers,
            preemption: true,
            instances_max,
            coroutines_max: limits.coroutines_max as u32 + SPARE_STACKS,
            memory_bytes_max,
            wasm_stack_bytes: limits.wasm_stack_bytes_max,
            fiber_stack_bytes: limits.fiber_stack_bytes,
            memories_max: limits.memories_max as u32,
            tables_max: limits.tables_max as u32,
            core_instances_max: limits.core_instances_max as u32,
            table_elements_max: limits.table_elements_max,
        }
    }

    /// The part that compiled code depends on, as text: part of its key in the cache.
    pub fn fingerprint(&self) -> String {
        format!(
            "wasmtime 48, fibers {}, preemption {}, memory {}, guard {GUARD_BYTES}, stack {}",
            self.fibers, self.preemption, self.memory_bytes_max, self.wasm_stack_bytes
        )
    }

    /// Makes the Engine.
    pub fn build(&self) -> wasmtime::Result<Engine> {
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::Speed);
        // Guests are synchronous: a whole component-model event loop stays out unless one has coroutines of its own.
        config.concurrency_support(self.fibers);
        config.wasm_component_model_async(self.fibers);
        config.wasm_component_model_async_stackful(self.fibers);
        config.wasm_component_model_threading(self.fibers);
        config.wasm_memory64(false);
        config.epoch_interruption(self.preemption);
        config.max_wasm_stack(self.wasm_stack_bytes);
        config.async_stack_size(self.fiber_stack_bytes);
        config.memory_reservation(self.memory_bytes_max as u64);
        config.memory_guard_size(GUARD_BYTES);
        config.memory_init_cow(true);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(self.pool()));
        Engine::new(&config)
    }

    fn pool(&self) -> PoolingAllocationConfig {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(self.instances_max)
            .total_core_instances(self.instances_max.saturating_mul(self.core_instances_max))
            .total_memories(self.instances_max.saturating_mul(self.memories_max))
            .total_tables(self.instances_max.saturating_mul(self.tables_max))
            .total_stacks(self.coroutines_max)
            .max_memory_size(self.memory_bytes_max)
            .max_memories_per_component(self.memories_max)
            .max_tables_per_component(self.tables_max)
            .max_core_instances_per_component(self.core_instances_max)
            .table_elements(self.table_elements_max);
        pool
    }
}

/// Unmapped bytes behind each memory: bounds are checked in code, the guard is for the host's own prefetches.
const GUARD_BYTES: u64 = 64 << 10;
/// Stacks beyond the coroutine limit: instances that are being started or taken down.
const SPARE_STACKS: u32 = 64;
