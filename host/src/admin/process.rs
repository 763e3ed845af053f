//! What the system tells of this process.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

/// This process, as the system sees it. What a container hides is 0.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// CPU time of all threads, in user and system.
    pub cpu_seconds: f64,
    /// Memory that is present.
    pub resident_bytes: u64,
    /// Addresses that are mapped.
    pub virtual_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// The most there may be.
    pub descriptors_limit: u64,
}

impl Process {
    /// As it is now.
    pub fn read() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let mut bytes = pages
            .split_whitespace()
            .map(|pages| pages.parse::<u64>().unwrap_or_default() * rustix::param::page_size() as u64);
        Self {
            id: std::process::id(),
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            virtual_bytes: bytes.next().unwrap_or_default(),
            resident_bytes: bytes.next().unwrap_or_default(),
            descriptors: descriptors().unwrap_or_default(),
            descriptors_limit: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

/// Its memory mappings. The list of them is long, so it is looked at now and then only.
pub(super) fn mappings() -> u64 {
    static COUNTED: Mutex<Option<(Instant, u64)>> = Mutex::new(None);
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    match *counted {
        Some((at, count)) if at.elapsed() < COUNT_EVERY => count,
        _ => {
            let maps = File::open("/proc/self/maps");
            let count = maps.map_or(0, |maps| BufReader::new(maps).split(b'\n').count() as u64);
            *counted = Some((Instant::now(), count));
            count
        }
    }
}

/// The most there may be.
pub(super) fn mappings_max() -> u64 {
    let max = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    max.and_then(|max| max.trim().parse().ok()).unwrap_or_default()
}

/// Between two counts.
const COUNT_EVERY: Duration = Duration::from_secs(10);

fn descriptors() -> io::Result<u64> {
    // The kernel tells their number so from 6.2 on; to list 10,000 takes it milliseconds.
    match fs::metadata("/proc/self/fd")?.len() {
        0 => Ok(fs::read_dir("/proc/self/fd")?.count() as u64),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_of_this_process() {
        let before = Process::read();
        let files: Vec<_> =
            (0..10).map(|_| fs::File::open("/proc/self/stat").expect("it is there")).collect();
        let now = Process::read();
        assert!(now.descriptors >= 10 && now.descriptors <= now.descriptors_limit, "{now:?}");
        assert!(now.resident_bytes > 0 && now.resident_bytes < now.virtual_bytes, "{now:?}");
        assert!(now.cpu_seconds >= before.cpu_seconds && before.cpu_seconds > 0.0, "{before:?} {now:?}");
        drop(files);
    }
}
