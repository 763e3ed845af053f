//! How fast tokio starts tasks that do nothing, in batches of a hundred.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::serve::tokio::Flavor;

/// What [`run`] found. Shown in the form that the other languages' programs print.
#[derive(Debug, Clone, Copy)]
pub struct SpawnReport {
    /// Tasks started and ended.
    pub spawned: u64,
    /// How long that took.
    pub time: Duration,
}

/// Starts `count` tasks, or a batch more.
pub fn run(count: u64, flavor: Flavor) -> Result<SpawnReport> {
    ensure!(count > 0, "at least one task is to be started");
    let runtime = flavor.builder().build()?;
    // Inside a task, so that with workers it runs on one.
    runtime.block_on(runtime.spawn(async move {
        let begin = Instant::now();
        let done = Arc::new(AtomicU64::new(0));
        let mut started = 0;
        while started < count {
            for _ in 0..BATCH {
                let done = Arc::clone(&done);
                tokio::spawn(async move { done.fetch_add(1, Ordering::Relaxed) });
            }
            started += BATCH;
            while done.load(Ordering::Relaxed) < started {
                tokio::task::yield_now().await;
            }
        }
        Ok(SpawnReport { spawned: started, time: begin.elapsed() })
    }))?
}

impl fmt::Display for SpawnReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spawned={} seconds={}", self.spawned, self.time.as_secs_f64())
    }
}

const BATCH: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tasks_run_in_whole_batches() {
        for flavor in [Flavor::CurrentThread, Flavor::MultiThread] {
            let report = run(250, flavor).expect("a runtime");
            assert_eq!(report.spawned, 300);
            assert!(report.to_string().starts_with("spawned=300 seconds="), "{report}");
        }
    }
}
