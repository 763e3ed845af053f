//! The limits of one tenant. Everything a guest or a peer can make grow has its number here.

use std::time::Duration;

/// A tenant's limits. `Limits::default()` is what `run` uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memories and tables of a fresh instance: a handler's connection, or a spawned coroutine.
    pub fresh_memory_bytes_max: usize,
    /// Memories and tables of a long-lived instance: a program, or a shared handler.
    pub shared_memory_bytes_max: usize,
    /// Memories and tables of all of the tenant's instances together.
    pub tenant_memory_bytes_max: usize,

    /// How long an accepted connection waits for the memory that its instance begins with; then it is reset.
    pub memory_wait_max: Duration,
    /// Bytes of a component's file.
    pub component_bytes_max: usize,
    /// Instances that a component makes of itself and of what is nested in it.
    pub nested_instances_max: usize,
    /// What compiling a component may take.
    pub compile: CompileLimits,

    /// Linear memories of a component.
    pub memories_max: usize,
    /// Tables of a component.
    pub tables_max: usize,
    /// Core instances of a component.
    pub core_instances_max: usize,
    /// Elements of one table.
    pub table_elements_max: usize,

    /// What WebAssembly code may use of a fiber's stack.
    pub wasm_stack_bytes_max: usize,
    /// A fiber's whole stack, reserved rather than used: host functions run on the rest of it.
    pub fiber_stack_bytes: usize,

    /// Live handles of a fresh instance's store.
    pub fresh_handles_max: usize,
    /// Live handles of a long-lived instance's store.
    pub shared_handles_max: usize,
    /// Bytes that one host call may lift from the guest.
    pub host_call_bytes_max: usize,

    /// Coroutines of the tenant, of both kinds together.
    pub coroutines_max: usize,
    /// Listeners of the tenant, for each copy of its program.
    pub listeners_max: usize,
    /// Connections that the tenant has accepted.
    pub connections_max: usize,
    /// Of them, from one address of a peer; more are reset.
    pub connections_per_ip_max: Option<usize>,
    /// Connections accepted in a second; more wait to be accepted.
    pub accepts_per_second_max: Option<usize>,
    /// What becomes of connections beyond `connections` and the accept rate.
    pub over_limit: OverLimit,
    /// When a handler that traps is no longer entered. None is always.
    pub circuit: Option<CircuitLimits>,
    /// Restarts of a copy of a program at once …
    pub restarts_max: usize,
    /// … within this time; more wait.
    pub restart_window: Duration,
    /// How much connections may move in a second.
    pub bandwidth: BandwidthLimits,
    /// What peers of a handler may keep it waiting for.
    pub peer: PeerLimits,
    /// After so long without a sign of a connection's peer the system looks for it, and gives it up after as long again.
    pub keepalive: Option<Duration>,
    /// Connections that the tenant has made, in use and idle in pools. They come on top of those accepted.
    pub outbound_max: usize,
    /// How long a connect waits for one of them; then `limit-exceeded`.
    pub outbound_wait_max: Duration,
    /// How long connecting may take from then on, names looked up and all addresses tried, whatever the guest asks for.
    pub connect_max: Duration,

    /// Names looked up in a second.
    pub lookups_per_second_max: Option<usize>,

    /// CPU time for an instance to be made, and as long for what it waits for meanwhile; one that takes more is trapped. With
    /// none, it is what a coroutine has between two blocking points.
    pub start_max: Option<Duration>,
    /// CPU time between two blocking points; a coroutine that uses more is trapped.
    pub cpu_max: Duration,

    /// What the clocks that guests see go in steps of; without it they are as fine as the machine's.
    pub clock_granularity: Option<Duration>,

    /// What guests print in a second that is logged, in `serve`; more is lost.
    pub log_bytes_per_second_max: usize,
    /// Bytes of a line of it; the rest is left out.
    pub log_line_bytes_max: usize,

    /// Pools of the tenant.
    pub pools_max: usize,
    /// The most that a guest may ask of a pool, and what it gets when it asks for nothing.
    pub pool: PoolLimits,

    /// From the signal to end until connections that still live are reset.
    pub drain_max: Duration,
}

/// Limits of the process that compiles a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time of all its threads, in whole seconds: a part of one counts as one.
    pub cpu_max: Duration,
    /// Memory.
    pub memory_bytes_max: usize,
    /// By the clock.
    pub time_max: Duration,
}

/// Limits on the patience with a handler's peers, while it waits for them. None is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerLimits {
    /// From accepting to the first byte.
    pub first_byte_max: Option<Duration>,
    /// From one byte to the next.
    pub idle_max: Option<Duration>,
    /// Until the peer takes some of what it is sent.
    pub write_max: Option<Duration>,
    /// On average, from ten seconds after accepting on.
    pub bytes_per_second_min: Option<u64>,
    /// How long the handler goes on when it is gone.
    pub orphan_max: Option<Duration>,
}

/// What becomes of connections that are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverLimit {
    /// They wait in the listener's backlog, and then in their own systems.
    #[default]
    Wait,
    /// They are reset.
    Refuse,
}

/// When a handler is taken for broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitLimits {
    /// So many traps one after another, with no success between them …
    pub traps_max: usize,
    /// … within this time.
    pub window: Duration,
}

/// Bytes a second, of connections of both kinds. More wait. None is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BandwidthLimits {
    /// Received by all of the tenant's connections together.
    pub tenant_in_max: Option<u64>,
    /// Sent by all of them.
    pub tenant_out_max: Option<u64>,
    /// Received by each of them.
    pub connection_in_max: Option<u64>,
    /// Sent by each.
    pub connection_out_max: Option<u64>,
}

/// Limits of each connection pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections open at once, in use and idle.
    pub open_max: usize,
    /// Idle connections kept.
    pub idle_max: usize,
    /// How long an idle connection is kept.
    pub idle_age_max: Duration,
    /// How old a connection may be when it is kept or handed out again.
    pub age_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            fresh_memory_bytes_max: 8 * MIB,
            shared_memory_bytes_max: 512 * MIB,
            tenant_memory_bytes_max: 512 * MIB,
            memory_wait_max: Duration::from_secs(10),
            // A debug build of a large guest has some ten million.
            component_bytes_max: 64 * MIB,
            nested_instances_max: 256,
            compile: CompileLimits::default(),
            memories_max: 2,
            tables_max: 8,
            core_instances_max: 32,
            table_elements_max: 20_000,
            wasm_stack_bytes_max: 128 * KIB,
            fiber_stack_bytes: 256 * KIB,
            fresh_handles_max: 1_024,
            shared_handles_max: 100_000,
            host_call_bytes_max: MIB,
            coroutines_max: 10_000,
            listeners_max: 64,
            connections_max: 10_000,
            connections_per_ip_max: None,
            accepts_per_second_max: None,
            over_limit: OverLimit::Wait,
            circuit: None,
            restarts_max: 5,
            restart_window: Duration::from_secs(30),
            bandwidth: BandwidthLimits::default(),
            peer: PeerLimits::default(),
            keepalive: None,
            outbound_max: 64,
            outbound_wait_max: Duration::from_secs(5),
            connect_max: Duration::from_secs(5),
            lookups_per_second_max: None,
            start_max: None,
            cpu_max: Duration::from_secs(1),
            clock_granularity: None,
            log_bytes_per_second_max: 64 * KIB,
            log_line_bytes_max: 4 * KIB,
            pools_max: 64,
            pool: PoolLimits::default(),
            drain_max: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// What `serve` uses where its file says nothing: tenants do not know each other.
    pub fn serve() -> Limits {
        Limits {
            start_max: Some(Duration::from_secs(1)),
            component_bytes_max: 10 * MIB,
            cpu_max: Duration::from_millis(50),
            clock_granularity: Some(Duration::from_millis(1)),
            connections_per_ip_max: Some(256),
            accepts_per_second_max: Some(2_000),
            peer: PeerLimits {
                first_byte_max: Some(Duration::from_secs(10)),
                idle_max: Some(Duration::from_secs(60)),
                write_max: Some(Duration::from_secs(30)),
                bytes_per_second_min: None,
                orphan_max: Some(Duration::from_secs(30)),
            },
            keepalive: Some(Duration::from_secs(60)),
            lookups_per_second_max: Some(20),
            circuit: Some(CircuitLimits { traps_max: 5, window: Duration::from_secs(30) }),
            ..Limits::default()
        }
    }
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            cpu_max: Duration::from_secs(10),
            memory_bytes_max: 1024 * MIB,
            time_max: Duration::from_secs(10 * 60),
        }
    }
}

impl CompileLimits {
    /// The greater of each.
    pub fn union(self, other: Self) -> Self {
        Self {
            cpu_max: self.cpu_max.max(other.cpu_max),
            memory_bytes_max: self.memory_bytes_max.max(other.memory_bytes_max),
            time_max: self.time_max.max(other.time_max),
        }
    }
}

impl Default for PoolLimits {
    fn default() -> PoolLimits {
        PoolLimits {
            open_max: 64,
            idle_max: 16,
            idle_age_max: Duration::from_secs(30),
            age_max: Duration::from_secs(5 * 60),
        }
    }
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
