//! Tenants as a table for people, and how they change from one look to the next.

use std::collections::HashMap;

use super::{
    TenantStatus,
    coroutines::{self, CoroutineStatus},
    status::{Meter, Told},
};

/// A line for each tenant, below a line of titles.
pub(super) fn tenants(told: &Told) -> String {
    let mut rows = vec![TITLES.map(str::to_owned).to_vec()];
    rows.extend(told.tenants.iter().map(|tenant| {
        let listeners: Vec<String> = tenant.listeners.iter().map(ToString::to_string).collect();
        vec![
            tenant.name.clone(),
            state(tenant),
            tenant.role.clone(),
            of(&tenant.connections, |count| count.to_string()),
            of(&tenant.coroutines, |count| count.to_string()),
            of(&tenant.memory_bytes, bytes),
            format!("{:.1}s", tenant.cpu_seconds),
            tenant.count("traps").to_string(),
            tenant.count("denied").to_string(),
            listeners.join(" "),
        ]
    }));
    aligned(&rows)
}

fn state(tenant: &TenantStatus) -> String {
    match &tenant.rolled_back {
        Some(why) => format!("{} (rolled back: {why})", tenant.state.name()),
        None => tenant.state.name().to_owned(),
    }
}

const TITLES: [&str; 10] = [
    "TENANT",
    "STATE",
    "ROLE",
    "CONNECTIONS",
    "COROUTINES",
    "MEMORY",
    "CPU",
    "TRAPS",
    "DENIED",
    "LISTENS ON",
];

/// What happens now: the tenants with the most CPU time first, with rates since the look before.
pub(super) fn top(told: &Told, before: Option<&Told>) -> String {
    let seconds = before.map(|before| told.host.uptime_seconds - before.host.uptime_seconds);
    let seconds = seconds.filter(|seconds| *seconds > 0.0);
    let earlier: HashMap<&str, &TenantStatus> =
        before.iter().flat_map(|told| &told.tenants).map(|tenant| (tenant.name.as_str(), tenant)).collect();
    let mut rates: Vec<(f64, Vec<String>)> = told
        .tenants
        .iter()
        .map(|tenant| {
            let since = earlier.get(tenant.name.as_str()).zip(seconds);
            let rate =
                |of: fn(&TenantStatus) -> f64| since.map(|(then, s)| (of(tenant) - of(then)).max(0.0) / s);
            let shown = |rate: Option<f64>, show: fn(f64) -> String| rate.map_or("-".to_owned(), show);
            let cpu = rate(|tenant| tenant.cpu_seconds);
            let row = vec![
                tenant.name.clone(),
                tenant.state.name().to_owned(),
                shown(cpu, |cpu| format!("{:.1}%", cpu * 100.0)),
                of(&tenant.memory_bytes, bytes),
                of(&tenant.connections, |count| count.to_string()),
                of(&tenant.coroutines, |count| count.to_string()),
                shown(rate(|tenant| tenant.count("accepted") as f64), |rate| format!("{rate:.0}/s")),
                shown(rate(|tenant| tenant.count("bytes_in") as f64), |rate| bytes(rate as u64) + "/s"),
                shown(rate(|tenant| tenant.count("bytes_out") as f64), |rate| bytes(rate as u64) + "/s"),
                tenant.count("traps").to_string(),
            ];
            (cpu.unwrap_or(tenant.cpu_seconds), row)
        })
        .collect();
    rates.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut rows = vec![TOP_TITLES.map(str::to_owned).to_vec()];
    rows.extend(rates.into_iter().map(|(_, row)| row));
    format!("{}\n{}", summary(told), aligned(&rows))
}

const TOP_TITLES: [&str; 10] =
    ["TENANT", "STATE", "CPU", "MEMORY", "CONNECTIONS", "COROUTINES", "ACCEPTED", "IN", "OUT", "TRAPS"];

/// A line for each coroutine, with its guest's stack below it if that is known, and how many there are besides.
pub(super) fn coroutines(told: &coroutines::Told) -> String {
    let mut rows = vec![PS_TITLES.map(str::to_owned).to_vec()];
    rows.extend(told.coroutines.iter().map(coroutine));
    let table = aligned(&rows);
    let mut lines = table.lines();
    let mut text = lines.next().unwrap_or_default().to_owned() + "\n";
    for (line, coroutine) in lines.zip(&told.coroutines) {
        text += &format!("{line}\n{}", stack(coroutine));
    }
    if told.left_out > 0 {
        text += &format!("and {} more, in their state for less: --limit shows more\n", told.left_out);
    }
    text
}

fn coroutine(one: &CoroutineStatus) -> Vec<String> {
    let draining = if one.draining { " (draining)" } else { "" };
    let shared = if one.shared { format!(" shared in {}", one.instance) } else { String::new() };
    vec![
        one.id.to_string(),
        format!("{}{draining}", one.tenant),
        one.kind.clone(),
        one.state.clone(),
        seconds(one.state_seconds),
        seconds(one.cpu_seconds),
        format!("{}{shared}", bytes(one.memory_bytes)),
        one.peer.map_or("-".to_owned(), |peer| peer.to_string()),
    ]
}

const PS_TITLES: [&str; 8] = ["ID", "TENANT", "KIND", "STATE", "FOR", "CPU", "MEMORY", "PEER"];

fn stack(of: &CoroutineStatus) -> String {
    let Some(stack) = &of.stack else { return String::new() };
    let head = format!("    in {}, {} ago:\n", stack.state, seconds(stack.age_seconds));
    let frames = stack.frames.iter().map(|frame| format!("      {frame}\n"));
    head + &frames.collect::<String>()
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0}ms", seconds * 1e3),
        ..60.0 => format!("{seconds:.1}s"),
        ..3600.0 => format!("{:.0}m{:02.0}s", (seconds / 60.0).floor(), (seconds % 60.0).floor()),
        _ => format!("{:.0}h{:02.0}m", (seconds / 3600.0).floor(), (seconds % 3600.0 / 60.0).floor()),
    }
}

fn summary(told: &Told) -> String {
    let host = &told.host;
    let process = &host.process;
    format!(
        "conet-host {}, process {}, {}, up {:.0}s, {} workers, {} of memory, {} of {} descriptors\n",
        host.version,
        process.id,
        host.phase.name(),
        host.uptime_seconds,
        host.workers,
        bytes(process.resident_bytes),
        process.descriptors,
        process.descriptors_limit,
    )
}

fn of(meter: &Meter, show: impl Fn(u64) -> String) -> String {
    format!("{}/{}", show(meter.used), show(meter.limit))
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let power = (count.max(1).ilog2() / 10).min(3);
    let value = count as f64 / f64::from(1_u32 << (10 * power));
    let digits = usize::from(power > 0 && value < 10.0 && value.fract() > 0.0);
    format!("{value:.digits$}{}", UNITS[power as usize])
}

/// Columns two spaces apart.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        for (count, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (8 << 20, "8MiB"),
            (5 << 40, "5120GiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn times_are_short() {
        for (time, text) in [
            (0.0, "0ms"),
            (0.25, "250ms"),
            (59.94, "59.9s"),
            (61.9, "1m01s"),
            (3599.9, "59m59s"),
            (100_000.0, "27h46m"),
        ] {
            assert_eq!(seconds(time), text);
        }
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["A", "LONG"], ["longer", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows), "A       LONG\nlonger  x\n");
    }
}
