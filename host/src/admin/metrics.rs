//! What `/metrics` tells.

use super::{
    HostStatus, Meter, Observation, Phase, State, TenantStatus,
    exposition::{Exposition, Kind},
};
use crate::metrics::Counters;

/// All metrics, as Prometheus reads them.
pub(super) fn metrics(host: &HostStatus, tenants: &[Observation]) -> String {
    let mut text = Exposition::default();
    process(&mut text, host);
    counters(&mut text, tenants);
    circuits(&mut text, tenants);
    meters(&mut text, tenants);
    pools(&mut text, tenants);
    let help = "Time in the host of guests' calls, waiting not counted, from one call in 64.";
    let mut calls = text.family("conet_call_seconds", Kind::Histogram, help);
    for Observation { status, calls: times } in tenants {
        for times in times {
            calls.histogram(&[("tenant", &status.name), ("call", times.name)], times);
        }
    }
    text.into_text()
}

fn process(text: &mut Exposition, host: &HostStatus) {
    let process = &host.process;
    text.family("conet_build_info", Kind::Gauge, "Always 1; the version is a label.")
        .sample(&[("version", &host.version)], 1);
    for (name, help, value) in [
        ("conet_ready", "1 while all listeners of the host accept.", f64::from(host.phase == Phase::Ready)),
        ("conet_uptime_seconds", "Since the host began to start.", host.uptime_seconds),
        ("conet_workers", "Threads that run guests.", host.workers as f64),
        ("process_resident_memory_bytes", "Memory that is present.", process.resident_bytes as f64),
        ("process_virtual_memory_bytes", "Addresses that are mapped.", process.virtual_bytes as f64),
        ("process_open_fds", "Open descriptors.", process.descriptors as f64),
        ("process_max_fds", "The most descriptors there may be.", process.descriptors_limit as f64),
    ] {
        text.family(name, Kind::Gauge, help).sample(&[], value);
    }
    text.family("process_cpu_seconds_total", Kind::Counter, "CPU time of all threads, in user and system.")
        .sample(&[], process.cpu_seconds);
}

fn counters(text: &mut Exposition, tenants: &[Observation]) {
    for (name, help) in Counters::ABOUT {
        let metric = format!("conet_{}_total", counter(name));
        let mut family = text.family(&metric, Kind::Counter, help);
        for Observation { status, .. } in tenants {
            family.sample(&[("tenant", &status.name)], status.count(name));
        }
    }
    let mut family = text.family("conet_cpu_seconds_total", Kind::Counter, "CPU time used on the workers.");
    for Observation { status, .. } in tenants {
        family.sample(&[("tenant", &status.name)], status.cpu_seconds);
    }
}

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

fn circuits(text: &mut Exposition, tenants: &[Observation]) {
    let help = "1 while connections of a handler are refused, as the ones before them trapped.";
    let mut family = text.family("conet_circuit_open", Kind::Gauge, help);
    for Observation { status, .. } in tenants {
        family.sample(&[("tenant", &status.name)], u8::from(status.state == State::CircuitOpen));
    }
}

fn meters(text: &mut Exposition, tenants: &[Observation]) {
    for (name, what, meter) in METERS {
        for (suffix, help, value) in VALUES {
            let (name, help) = (format!("conet_{name}{suffix}"), format!("{what}{help}"));
            let mut family = text.family(&name, Kind::Gauge, &help);
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

fn pools(text: &mut Exposition, tenants: &[Observation]) {
    for (name, kind, help, value) in POOLS {
        let mut family = text.family(name, kind, help);
        for Observation { status, .. } in tenants {
            family.sample(&[("tenant", &status.name)], value(status));
        }
    }
    let help = "Connections of pools that were closed instead of kept.";
    let mut family = text.family("conet_pool_discarded_total", Kind::Counter, help);
    for Observation { status, .. } in tenants {
        for (reason, count) in &status.pools.discarded {
            family.sample(&[("tenant", &status.name), ("reason", reason)], count);
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
