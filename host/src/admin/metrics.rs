//! What `/metrics` tells, and the collector of OpenTelemetry is sent.

use std::collections::BTreeMap;

use super::{
    HostStatus, Meter, Observation, State, TenantRoster, TenantStatus,
    families::{Families, Kind},
    process::{mappings, mappings_max},
};
use crate::{
    metrics::{Counters, HostCounters},
    roster::Doing,
};

/// All metrics.
pub(super) fn metrics(host: &HostStatus, tenants: &[Observation], rosters: &[TenantRoster]) -> Families {
    let mut text = Families::default();
    process(&mut text, host);
    workers(&mut text, host);
    host_counters(&mut text, host);
    counters(&mut text, tenants);
    endings(&mut text, tenants);
    circuits(&mut text, tenants);
    rollbacks(&mut text, tenants);
    warnings(&mut text, tenants);
    meters(&mut text, tenants);
    pools(&mut text, tenants);
    states(&mut text, rosters);
    times(&mut text, tenants);
    text
}

fn process(text: &mut Families, host: &HostStatus) {
    let process = &host.process;
    text.family("conet_build_info", Kind::Gauge, "Always 1; the version is a label.")
        .sample(&[("version", &host.version)], 1_u64);
    for (name, help, value) in [
        ("conet_ready", "1 while all listeners of the host accept.", f64::from(host.phase.accepts())),
        ("conet_uptime_seconds", "Since the host began to start.", host.uptime_seconds),
        ("conet_workers", "Threads that run guests.", host.workers as f64),
        ("process_resident_memory_bytes", "Memory that is present.", process.resident_bytes as f64),
        ("process_virtual_memory_bytes", "Addresses that are mapped.", process.virtual_bytes as f64),
        ("process_open_fds", "Open descriptors.", process.descriptors as f64),
        ("process_memory_mappings", "Memory mappings, counted every ten seconds.", mappings() as f64),
        ("process_max_memory_mappings", "The most memory mappings there may be.", mappings_max() as f64),
        ("process_max_fds", "The most descriptors there may be.", process.descriptors_limit as f64),
    ] {
        text.family(name, Kind::Gauge, help).sample(&[], value);
    }
    for (name, help, value) in [
        ("conet_otlp_exports_total", "Times a collector has taken the metrics.", host.exports),
        ("conet_otlp_export_failures_total", "Times that failed.", host.export_failures),
    ] {
        text.family(name, Kind::Counter, help).sample(&[], value);
    }
    text.family("process_cpu_seconds_total", Kind::Counter, "CPU time of all threads, in user and system.")
        .sample(&[], process.cpu_seconds);
}

/// Each by its number, which the workers after a reload have anew.
fn workers(text: &mut Families, host: &HostStatus) {
    let numbers: Vec<String> = (0..host.loads.len()).map(|number| number.to_string()).collect();
    let loads = || numbers.iter().map(String::as_str).zip(&host.loads);
    let help = "Accepts, receives and sends that had not come to anything when the worker last looked at its sockets.";
    let family = text.family("conet_worker_operations", Kind::Gauge, help);
    for (number, load) in loads() {
        family.sample(&[("worker", number)], load.in_flight as u64);
    }
    let help = "How long a worker ran guests without a look at its sockets, where that was longer than 2 ms.";
    let family = text.family("conet_worker_stall_seconds", Kind::Histogram, help);
    for (number, load) in loads() {
        family.sample(&[("worker", number)], &load.stalls);
    }
}

fn host_counters(text: &mut Families, host: &HostStatus) {
    for (name, help) in HostCounters::ABOUT {
        let count = host.counters.get(*name).copied().unwrap_or_default();
        text.family(&format!("conet_{name}_total"), Kind::Counter, help).sample(&[], count);
    }
}

fn counters(text: &mut Families, tenants: &[Observation]) {
    for (name, help) in Counters::ABOUT {
        let metric = format!("conet_{}_total", counter(name));
        let family = text.family(&metric, Kind::Counter, help);
        for Observation { status, .. } in tenants {
            family.sample(&[("tenant", &status.name)], status.count(name));
        }
    }
    let family = text.family("conet_cpu_seconds_total", Kind::Counter, "CPU time used on the workers.");
    for Observation { status, .. } in tenants {
        family.sample(&[("tenant", &status.name)], status.cpu_seconds);
    }
}

fn endings(text: &mut Families, tenants: &[Observation]) {
    let help = "Accepted connections that have ended, by how, as in the access log.";
    let family = text.family("conet_connections_closed_total", Kind::Counter, help);
    for Observation { status, .. } in tenants {
        for (reason, count) in &status.closed {
            family.sample(&[("tenant", &status.name), ("reason", reason)], *count);
        }
    }
}

fn times(text: &mut Families, tenants: &[Observation]) {
    let help = "Time in the host of guests' calls, waiting not counted, from one call in 64.";
    let calls = text.family("conet_call_seconds", Kind::Histogram, help);
    for Observation { status, calls: times } in tenants {
        for times in times.iter().filter(|times| TIMES.iter().all(|(name, ..)| times.name != *name)) {
            calls.sample(&[("tenant", &status.name), ("call", times.name)], times);
        }
    }
    for (name, metric, help) in TIMES {
        let family = text.family(metric, Kind::Histogram, help);
        for Observation { status, calls } in tenants {
            for times in calls.iter().filter(|times| times.name == name) {
                family.sample(&[("tenant", &status.name)], times);
            }
        }
    }
}

fn warnings(text: &mut Families, tenants: &[Observation]) {
    let help = "What a grant or limit would have denied that only warns.";
    let family = text.family("conet_would_deny_total", Kind::Counter, help);
    for Observation { status, .. } in tenants {
        for (limit, count) in &status.would_deny {
            family.sample(&[("tenant", &status.name), ("limit", limit)], *count);
        }
    }
}

/// What is measured besides calls.
const TIMES: [(&str, &str, &str); 3] = [
    (
        "accept-to-guest",
        "conet_accept_to_guest_seconds",
        "From a connection's task to the call of its handler in a fresh instance, of one in 64.",
    ),
    ("slice", "conet_slice_seconds", "How long instances have a worker at a time, of one turn in 64."),
    (
        "kill-latency",
        "conet_kill_latency_seconds",
        "CPU time beyond its limit that a guest had when it was ended.",
    ),
];

/// Prometheus' name of a counter, which has its unit, and is none of a gauge.
fn counter(name: &str) -> &str {
    match name {
        "accepted" => "connections_accepted",
        "connected" => "connections_opened",
        "coroutines" => "coroutines_started",
        "instances" => "instances_made",
        "bytes_in" => "received_bytes",
        "bytes_out" => "sent_bytes",
        "bytes_in_held" => "received_bytes_held",
        "bytes_out_held" => "sent_bytes_held",
        "output_lost" => "output_lost_bytes",
        name => name,
    }
}

fn circuits(text: &mut Families, tenants: &[Observation]) {
    let help = "1 while connections of a handler are refused, as the ones before them trapped.";
    let family = text.family("conet_circuit_open", Kind::Gauge, help);
    for Observation { status, .. } in tenants {
        family.sample(&[("tenant", &status.name)], u64::from(status.state == State::CircuitOpen));
    }
}

fn rollbacks(text: &mut Families, tenants: &[Observation]) {
    let help = "Times a new version of a tenant has given way to the one before.";
    let family = text.family("conet_tenant_rollbacks_total", Kind::Counter, help);
    for Observation { status, .. } in tenants {
        family.sample(&[("tenant", &status.name)], status.rollbacks);
    }
}

fn meters(text: &mut Families, tenants: &[Observation]) {
    for (name, what, meter) in METERS {
        for (suffix, help, value) in VALUES {
            let (name, help) = (format!("conet_{name}{suffix}"), format!("{what}{help}"));
            let family = text.family(&name, Kind::Gauge, &help);
            for Observation { status, .. } in tenants {
                family.sample(&[("tenant", &status.name)], value(meter(status)));
            }
        }
    }
}

/// A gauge of each: its name, what it counts, where it is.
type MeterOf = fn(&TenantStatus) -> &Meter;
const METERS: [(&str, &str, MeterOf); 5] = [
    ("connections", "Accepted connections", |tenant| &tenant.connections),
    ("outbound_connections", "Opened connections", |tenant| &tenant.outbound),
    ("coroutines", "Coroutines", |tenant| &tenant.coroutines),
    ("instances", "Instances", |tenant| &tenant.instances),
    ("memory_bytes", "Bytes of memories and tables", |tenant| &tenant.memory_bytes),
];

/// Three of each.
type ValueOf = fn(&Meter) -> u64;
const VALUES: [(&str, &str, ValueOf); 3] = [
    ("", " now.", |meter| meter.used),
    ("_limit", ": the most there may be.", |meter| meter.limit),
    ("_peak", ": the most there were at once.", |meter| meter.peak),
];

fn states(text: &mut Families, rosters: &[TenantRoster]) {
    // One series for each, whatever versions there are.
    let mut counts: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for TenantRoster { tenant, roster, .. } in rosters {
        let states = counts.entry(tenant).or_insert_with(|| vec![0; Doing::ALL.len()]);
        roster.for_each(|coroutine| states[coroutine.doing().0 as usize] += 1);
    }
    let help = "Coroutines by what they do, those of older versions, too.";
    let family = text.family("conet_coroutines_by_state", Kind::Gauge, help);
    for (tenant, states) in counts {
        for (doing, count) in Doing::ALL.iter().zip(states) {
            family.sample(&[("tenant", tenant), ("state", doing.name())], count);
        }
    }
}

fn pools(text: &mut Families, tenants: &[Observation]) {
    for (name, kind, help, value) in POOLS {
        let family = text.family(name, kind, help);
        for Observation { status, .. } in tenants {
            family.sample(&[("tenant", &status.name)], value(status));
        }
    }
    let help = "Connections of pools that were closed instead of kept.";
    let family = text.family("conet_pool_discarded_total", Kind::Counter, help);
    for Observation { status, .. } in tenants {
        for (reason, count) in &status.pools.discarded {
            family.sample(&[("tenant", &status.name), ("reason", reason)], *count);
        }
    }
}

type PoolOf = fn(&TenantStatus) -> u64;
const POOLS: [(&str, Kind, &str, PoolOf); 5] = [
    ("conet_pool_connections", Kind::Gauge, "Open connections of pools.", |tenant| tenant.pools.open),
    ("conet_pool_idle_connections", Kind::Gauge, "Of them, idle.", |tenant| tenant.pools.idle),
    ("conet_pool_opened_total", Kind::Counter, "Connections that pools opened.", |tenant| {
        tenant.pools.opened
    }),
    ("conet_pool_reused_total", Kind::Counter, "Times an idle connection went out again.", |tenant| {
        tenant.pools.reused
    }),
    ("conet_pool_waited_total", Kind::Counter, "Times a get had to wait for a connection.", |tenant| {
        tenant.pools.waited
    }),
];
