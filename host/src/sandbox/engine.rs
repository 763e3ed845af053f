//! The one Engine: what it compiles with, and where memories, tables and stacks come from.

use std::sync::Arc;

use conet_rt::Stacks;
use serde::{Deserialize, Serialize};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails,
};

use super::trusted::FiberStacks;
use crate::config::limits::Limits;

/// What an Engine must have room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Coroutines may share instances: concurrency and stackful lifts are on.
    pub fibers: bool,
    /// Guest code looks at the epoch, and so ends its slice and its CPU budget. Without it nothing does that for it.
    pub preemption: bool,
    /// Where instances come from.
    pub instances: Instances,
    /// Coroutines at once, each with a stack.
    pub coroutines_max: usize,
    /// Stack that a guest's own frames may use.
    pub wasm_stack_bytes: usize,
    /// A coroutine's whole stack, host frames included.
    pub fiber_stack_bytes: usize,
    /// The largest component.
    pub shape: Shape,
}

/// All that compiled code depends on besides the component. Engines with the same run the same code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codegen {
    /// As in [`EngineOptions`].
    pub fibers: bool,
    /// As in [`EngineOptions`].
    pub preemption: bool,
    /// Stack that a guest's own frames may use.
    pub wasm_stack_bytes: usize,
    /// The largest memory any instance may have.
    pub memory_bytes_max: usize,
}

/// What a component may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The largest memory any instance may have.
    pub memory_bytes_max: usize,
    /// Memories of a component.
    pub memories_max: u32,
    /// Tables of a component.
    pub tables_max: u32,
    /// Core instances of a component.
    pub core_instances_max: u32,
    /// Elements of a table.
    pub table_elements_max: usize,
}

/// Where the memory of instances comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instances {
    /// Mapped when an instance is made: for few. Coroutines' stacks are our own then, which cost no mapping
    /// each.
    Mapped,
    /// Slots for so many at once, used again and again: for one instance after another. Mapping each of them
    /// anew would take longer.
    Pooled(u32),
}

impl Shape {
    /// The shape that these limits leave a component whose instances may have so much memory.
    pub fn new(limits: &Limits, memory_bytes_max: usize) -> Self {
        Self {
            memory_bytes_max,
            memories_max: limits.memories_max as u32,
            tables_max: limits.tables_max as u32,
            core_instances_max: limits.core_instances_max as u32,
            table_elements_max: limits.table_elements_max,
        }
    }

    /// One that both fit into.
    pub fn union(self, other: Self) -> Self {
        Self {
            memory_bytes_max: self.memory_bytes_max.max(other.memory_bytes_max),
            memories_max: self.memories_max.max(other.memories_max),
            tables_max: self.tables_max.max(other.tables_max),
            core_instances_max: self.core_instances_max.max(other.core_instances_max),
            table_elements_max: self.table_elements_max.max(other.table_elements_max),
        }
    }
}

impl EngineOptions {
    /// Options for instances of this shape, with the stacks of these limits.
    pub fn new(limits: &Limits, fibers: bool, shape: Shape) -> Self {
        Self {
            fibers,
            preemption: true,
            instances: Instances::Mapped,
            coroutines_max: limits.coroutines_max,
            wasm_stack_bytes: limits.wasm_stack_bytes_max,
            fiber_stack_bytes: limits.fiber_stack_bytes,
            shape,
        }
    }

    /// Options that serve both, with the coroutines of one and the other.
    pub fn union(self, other: &Self) -> Self {
        Self {
            fibers: self.fibers || other.fibers,
            preemption: self.preemption && other.preemption,
            instances: self.instances,
            coroutines_max: self.coroutines_max.saturating_add(other.coroutines_max),
            wasm_stack_bytes: self.wasm_stack_bytes.max(other.wasm_stack_bytes),
            fiber_stack_bytes: self.fiber_stack_bytes.max(other.fiber_stack_bytes),
            shape: self.shape.union(other.shape),
        }
    }

    /// What compiled code depends on.
    pub fn codegen(&self) -> Codegen {
        let Self { fibers, preemption, wasm_stack_bytes, shape: Shape { memory_bytes_max, .. }, .. } = *self;
        Codegen { fibers, preemption, wasm_stack_bytes, memory_bytes_max }
    }

    /// Makes the Engine.
    pub fn build(&self) -> wasmtime::Result<Engine> {
        let mut config = self.config();
        match self.instances {
            Instances::Mapped => {
                let stacks = Stacks::new(self.fiber_stack_bytes, self.coroutines_max + SPARE_STACKS)?;
                config.with_host_stack(Arc::new(FiberStacks(stacks)));
            }
            Instances::Pooled(count) => {
                let mut pool = self.shape.pool(count);
                pool.total_stacks(count.saturating_add(SPARE_STACKS as u32));
                // Cleared by hand. Of memories it would be the lowest bytes, which are not the ones in use.
                // To ask the kernel which are (`pagemap_scan`) is not safe in wasmtime 48: it passes over
                // pages in swap or on the move.
                pool.table_keep_resident(TABLE_KEPT_BYTES);
                config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
            }
        }
        Engine::new(&config)
    }

    /// An Engine that refuses a component of another shape, and is good for no more. It compiles the same code.
    pub fn judge(&self, shape: &Shape) -> wasmtime::Result<Engine> {
        let mut config = self.config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(shape.pool(1)));
        Engine::new(&config)
    }

    /// What all of them have in common.
    fn config(&self) -> Config {
        let mut config = self.codegen().config();
        config.async_stack_size(self.fiber_stack_bytes);
        config
    }
}

impl Codegen {
    /// The same for the same, as text: part of a key in the cache.
    pub fn fingerprint(&self) -> String {
        let Self { fibers, preemption, wasm_stack_bytes, memory_bytes_max } = self;
        format!(
            "wasmtime 48, fibers {fibers}, preemption {preemption}, memory {memory_bytes_max}, guard {GUARD_BYTES}, \
             stack {wasm_stack_bytes}"
        )
    }

    /// An Engine that compiles, and takes no address for instances.
    pub(super) fn compiler(&self) -> wasmtime::Result<Engine> {
        let mut config = self.config();
        // Nothing runs on it, but wasmtime wants the one stack to hold the other.
        config.async_stack_size(self.wasm_stack_bytes);
        Engine::new(&config)
    }

    fn config(&self) -> Config {
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
        // Memories as large as the limit allows, in addresses: they never move when they grow.
        config.memory_reservation(self.memory_bytes_max as u64);
        config.memory_may_move(false);
        config.memory_guard_size(GUARD_BYTES);
        config.memory_init_cow(true);
        // Whatever the environment says: it would parse a stranger's debug information, at each trap, on a worker. Lines come
        // from a table (`debug_lines.rs`).
        config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
        config
    }
}

impl Shape {
    fn pool(&self, instances: u32) -> PoolingAllocationConfig {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_core_instances(instances.saturating_mul(self.core_instances_max))
            .total_memories(instances.saturating_mul(self.memories_max))
            .total_tables(instances.saturating_mul(self.tables_max))
            .total_stacks(1)
            .max_memory_size(self.memory_bytes_max)
            .max_memories_per_component(self.memories_max)
            .max_memories_per_module(self.memories_max)
            .max_tables_per_component(self.tables_max)
            .max_tables_per_module(self.tables_max)
            .max_core_instances_per_component(self.core_instances_max)
            .table_elements(self.table_elements_max);
        pool
    }
}

/// Unmapped bytes around each memory: bounds are checked in code, but for what is within this of them.
const GUARD_BYTES: u64 = 64 << 10;
/// Of each table that a pooled instance leaves, what stays in memory for the next one.
const TABLE_KEPT_BYTES: usize = 4 << 10;
/// Stacks beyond those that can be in use: instances that are being started or taken down.
const SPARE_STACKS: usize = 64;
