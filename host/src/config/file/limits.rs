//! `[tenant.limits]` and `[defaults.limits]`: a key for each of [`Limits`].

use std::time::Duration;

use super::{
    section::section,
    setting::{At, Count, OrOff, PerSecond, Size},
};
use crate::config::limits::{
    BandwidthLimits, CircuitLimits, CompileLimits, Limits, OverLimit, PeerLimits, PoolLimits,
};

section! {
    /// What a tenant may use. A limit that is reached is an error that the guest sees, or a trap where it says so, and
    /// is counted.
    pub(super) struct LimitsSection {
        /// Memory and tables of a fresh instance: a handler's connection, or a spawned coroutine. Growing past it fails.
        "fresh-memory": fresh_memory: Size = "`\"8MiB\"`",
        /// Memory and tables of an instance that lasts: a program, or a shared handler. Growing past it fails.
        "shared-memory": shared_memory: Size = "`\"512MiB\"`",
        /// Memory and tables of all of the tenant's instances together. Growing past it fails, and a handler's connection waits
        /// until there is what its instance begins with.
        "tenant-memory": tenant_memory: Size = "`\"512MiB\"`",
        /// How long it waits; then it is reset.
        "memory-wait": memory_wait: Duration = "`\"10s\"`",
        /// Bytes of the component's file, which is refused with more.
        "component-size": component_size: Size = "`\"10MiB\"`",
        /// Instances that a component makes of itself and of what is nested in it. It is refused with more.
        "nested-instances": nested_instances: Count = "256",
        /// CPU time that compiling the component may take, in whole seconds; then it is refused, as by the two that
        /// follow. Tenants with the same component share what is compiled, and of theirs the greatest holds.
        "compile-cpu": compile_cpu: Duration = "`\"10s\"`",
        /// Memory that compiling it may take, 64MiB at least.
        "compile-memory": compile_memory: Size = "`\"1GiB\"`",
        /// How long compiling it may take by the clock. While tenants run, it is done with what they leave of the processors.
        "compile-time": compile_time: Duration = "`\"10m\"`",
        /// Linear memories of a component, which is refused with more.
        "memories": memories: Count = "2",
        /// Tables of a component, which is refused with more.
        "tables": tables: Count = "8",
        /// Core instances of a component, which is refused with more.
        "core-instances": core_instances: Count = "32",
        /// Elements of one table. Growing past it fails.
        "table-elements": table_elements: Count = "20000",
        /// Stack that the guest's frames may use; more is a trap. Of all tenants' the greatest holds.
        "wasm-stack": wasm_stack: Size = "`\"128KiB\"`",
        /// A coroutine's whole stack, reserved rather than used: the host's functions run on the rest of it. Of all
        /// tenants' the greatest holds.
        "fiber-stack": fiber_stack: Size = "`\"256KiB\"`",
        /// Live handles of a fresh instance; more is a trap.
        "fresh-handles": fresh_handles: Count = "1024",
        /// Live handles of an instance that lasts; more is a trap.
        "shared-handles": shared_handles: Count = "100000",
        /// Bytes that one call may bring from the guest; more is a trap.
        "host-call": host_call: Size = "`\"1MiB\"`",
        /// Coroutines at once. `go` and `spawn` fail, and a handler's connections wait.
        "coroutines": coroutines: Count = "10000",
        /// Listeners at once, for each copy of a program.
        "listeners": listeners: Count = "64",
        /// Accepted connections at once. More wait to be accepted.
        "connections": connections: Count = "10000",
        /// Of them, from one address. More are reset. Behind a proxy, whose address all have, switch it off, or have
        /// the proxy tell its clients': `proxy-protocol-from`.
        "connections-per-ip": connections_per_ip: OrOff<Count> = "256",
        /// Connections accepted in a second. More wait to be accepted.
        "accept-rate": accept_rate: OrOff<Count> = "2000",
        /// What becomes of connections beyond `connections` and `accept-rate`, and of a handler's beyond `coroutines`.
        "over-limit": over_limit: OverLimit = "`\"wait\"`",
        /// After so many connections of a handler that trapped, one after another, with no other end between them, more
        /// are reset. One is let through after a second, and if it traps, too, after two, and so on up to a minute; the
        /// first one that does not trap ends it.
        "circuit-traps": circuit_traps: OrOff<Count> = "5",
        /// Within this time they have to trap.
        "circuit-window": circuit_window: Duration = "`\"30s\"`",
        /// Restarts of a copy of a program at once; more wait, for a second at first and up to a minute.
        "restarts": restarts: Count = "5",
        /// Within this time.
        "restart-window": restart_window: Duration = "`\"30s\"`",
        /// Bytes that all of the tenant's connections, accepted and made, receive in a second. More wait, for which its
        /// peers are not blamed, as by the three that follow.
        "bandwidth-in": bandwidth_in: OrOff<PerSecond> = "`\"off\"`",
        /// Bytes that they send in a second.
        "bandwidth-out": bandwidth_out: OrOff<PerSecond> = "`\"off\"`",
        /// Bytes that each of them receives in a second.
        "connection-bandwidth-in": connection_bandwidth_in: OrOff<PerSecond> = "`\"off\"`",
        /// Bytes that each of them sends in a second.
        "connection-bandwidth-out": connection_bandwidth_out: OrOff<PerSecond> = "`\"off\"`",
        /// How long a handler's peer may take to send its first byte. Then it is reset, as by the three that follow.
        /// As long a proxy's header may take, and 10 seconds if this is off.
        "first-byte": first_byte: OrOff<Duration> = "`\"10s\"`",
        /// How long it may then leave the handler waiting for the next.
        "idle": idle: OrOff<Duration> = "`\"60s\"`",
        /// How long it may leave the handler waiting for room to send.
        "write": write: OrOff<Duration> = "`\"30s\"`",
        /// Bytes a second that it must send on average, from ten seconds after it was accepted on, whenever the handler waits.
        "receive-rate-min": receive_rate_min: OrOff<Count> = "`\"off\"`",
        /// How long a handler that has an instance to itself goes on after its peer was reset, or has reset the connection, without
        /// letting go of that; then it is ended. A spawned coroutine is as well, when all connections that it was started with
        /// are gone so. A peer that ends its side in order is no such.
        "orphan": orphan: OrOff<Duration> = "`\"30s\"`",
        /// After so long without a sign of a connection's peer the system looks for it, and after as long again gives it up.
        "keepalive": keepalive: OrOff<Duration> = "`\"60s\"`",
        /// Connections made, in use and idle in pools.
        "outbound": outbound: Count = "64",
        /// How long a connect waits for one of them.
        "outbound-wait": outbound_wait: Duration = "`\"5s\"`",
        /// How long connecting may take, names looked up and all addresses tried.
        "connect": connect: Duration = "`\"5s\"`",
        /// Names looked up in a second, and as many at once. More fail.
        "lookups": lookups: OrOff<Count> = "20",
        /// CPU time that an instance may take to be made, its modules' start functions run, and as long again for what these
        /// wait for; more is a trap. `"off"` leaves `cpu` to bound it.
        "start": start: OrOff<Duration> = "`\"1s\"`",
        /// CPU time between two calls that wait; more is a trap.
        "cpu": cpu: Duration = "`\"50ms\"`",
        /// The steps in which the guests' clocks go, and at which their timers go off: finer ones would show what others leave
        /// in the processor's caches. `"off"` is as fine as the machine has it.
        "clock-granularity": clock_granularity: OrOff<Duration> = "`\"1ms\"`",
        /// What the guests print in a second that is logged. More is lost, and counted.
        "log-rate": log_rate: Size = "`\"64KiB\"`",
        /// Bytes of a line that is logged. The rest is left out.
        "log-line": log_line: Size = "`\"4KiB\"`",
        /// Connection pools at once.
        "pools": pools: Count = "64",
        /// Connections of a pool, in use and idle: the most a guest may ask for, and what it gets if it does not.
        "pool-open": pool_open: Count = "64",
        /// Idle connections that a pool keeps.
        "pool-idle": pool_idle: Count = "16",
        /// How long it keeps one.
        "pool-idle-age": pool_idle_age: Duration = "`\"30s\"`",
        /// How old a connection may be that it keeps or hands out.
        "pool-age": pool_age: Duration = "`\"5m\"`",
        /// How long connections have to finish when the host ends or the tenant is replaced; then they are reset.
        "drain": drain: Duration = "`\"10s\"`",
    }
    absent {
        "timers": "coroutines have no timers besides the call that each waits in",
        "channel-bytes": "coroutines have no channels",
    }
}

impl LimitsSection {
    /// All limits: those given, and the others as `serve` has them.
    pub(super) fn limits(&self) -> Limits {
        let standard = Limits::serve();
        let circuit = standard.circuit.clone().expect("serve has one");
        let window = self.circuit_window.as_ref().map_or(circuit.window, |at| at.value);
        let traps = or_off(&self.circuit_traps, Some(circuit.traps_max), |at| at.0);
        let count = |given: &Option<At<Count>>, standard| given.as_ref().map_or(standard, |at| at.value.0);
        let size = |given: &Option<At<Size>>, standard| given.as_ref().map_or(standard, |at| at.value.0);
        let time = |given: &Option<At<Duration>>, standard| given.as_ref().map_or(standard, |at| at.value);
        Limits {
            fresh_memory_bytes_max: size(&self.fresh_memory, standard.fresh_memory_bytes_max),
            shared_memory_bytes_max: size(&self.shared_memory, standard.shared_memory_bytes_max),
            tenant_memory_bytes_max: size(&self.tenant_memory, standard.tenant_memory_bytes_max),
            memory_wait_max: time(&self.memory_wait, standard.memory_wait_max),
            component_bytes_max: size(&self.component_size, standard.component_bytes_max),
            nested_instances_max: count(&self.nested_instances, standard.nested_instances_max),
            compile: CompileLimits {
                cpu_max: time(&self.compile_cpu, standard.compile.cpu_max),
                memory_bytes_max: size(&self.compile_memory, standard.compile.memory_bytes_max),
                time_max: time(&self.compile_time, standard.compile.time_max),
            },
            memories_max: count(&self.memories, standard.memories_max),
            tables_max: count(&self.tables, standard.tables_max),
            core_instances_max: count(&self.core_instances, standard.core_instances_max),
            table_elements_max: count(&self.table_elements, standard.table_elements_max),
            wasm_stack_bytes_max: size(&self.wasm_stack, standard.wasm_stack_bytes_max),
            fiber_stack_bytes: size(&self.fiber_stack, standard.fiber_stack_bytes),
            fresh_handles_max: count(&self.fresh_handles, standard.fresh_handles_max),
            shared_handles_max: count(&self.shared_handles, standard.shared_handles_max),
            host_call_bytes_max: size(&self.host_call, standard.host_call_bytes_max),
            coroutines_max: count(&self.coroutines, standard.coroutines_max),
            listeners_max: count(&self.listeners, standard.listeners_max),
            connections_max: count(&self.connections, standard.connections_max),
            connections_per_ip_max: or_off(&self.connections_per_ip, standard.connections_per_ip_max, |at| {
                at.0
            }),
            accepts_per_second_max: or_off(&self.accept_rate, standard.accepts_per_second_max, |at| at.0),
            over_limit: self.over_limit.as_ref().map_or(standard.over_limit, |at| at.value),
            circuit: traps.map(|traps_max| CircuitLimits { traps_max, window }),
            restarts_max: count(&self.restarts, standard.restarts_max),
            restart_window: time(&self.restart_window, standard.restart_window),
            bandwidth: BandwidthLimits {
                tenant_in_max: or_off(&self.bandwidth_in, standard.bandwidth.tenant_in_max, |at| at.0),
                tenant_out_max: or_off(&self.bandwidth_out, standard.bandwidth.tenant_out_max, |at| at.0),
                connection_in_max: or_off(
                    &self.connection_bandwidth_in,
                    standard.bandwidth.connection_in_max,
                    |at| at.0,
                ),
                connection_out_max: or_off(
                    &self.connection_bandwidth_out,
                    standard.bandwidth.connection_out_max,
                    |at| at.0,
                ),
            },
            peer: PeerLimits {
                first_byte_max: or_off(&self.first_byte, standard.peer.first_byte_max, |at| at),
                idle_max: or_off(&self.idle, standard.peer.idle_max, |at| at),
                write_max: or_off(&self.write, standard.peer.write_max, |at| at),
                bytes_per_second_min: or_off(
                    &self.receive_rate_min,
                    standard.peer.bytes_per_second_min,
                    |at| at.0 as u64,
                ),
                orphan_max: or_off(&self.orphan, standard.peer.orphan_max, |at| at),
            },
            keepalive: or_off(&self.keepalive, standard.keepalive, |at| at),
            outbound_max: count(&self.outbound, standard.outbound_max),
            outbound_wait_max: time(&self.outbound_wait, standard.outbound_wait_max),
            connect_max: time(&self.connect, standard.connect_max),
            lookups_per_second_max: or_off(&self.lookups, standard.lookups_per_second_max, |at| at.0),
            start_max: or_off(&self.start, standard.start_max, |at| at),
            cpu_max: time(&self.cpu, standard.cpu_max),
            clock_granularity: or_off(&self.clock_granularity, standard.clock_granularity, |at| at),
            log_bytes_per_second_max: size(&self.log_rate, standard.log_bytes_per_second_max),
            log_line_bytes_max: size(&self.log_line, standard.log_line_bytes_max),
            pools_max: count(&self.pools, standard.pools_max),
            pool: PoolLimits {
                open_max: count(&self.pool_open, standard.pool.open_max),
                idle_max: count(&self.pool_idle, standard.pool.idle_max),
                idle_age_max: time(&self.pool_idle_age, standard.pool.idle_age_max),
                age_max: time(&self.pool_age, standard.pool.age_max),
            },
            drain_max: time(&self.drain, standard.drain_max),
        }
    }
}

fn or_off<T: Copy, U>(given: &Option<At<OrOff<T>>>, standard: Option<U>, of: fn(T) -> U) -> Option<U> {
    match given {
        Some(At { value: OrOff(value), .. }) => value.map(of),
        None => standard,
    }
}
