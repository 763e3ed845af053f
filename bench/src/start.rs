//! How long a host takes from its start to `listening on`.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

/// What [`run`] found: medians, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StartReport {
    /// Starts of each kind.
    pub rounds: usize,
    /// With nothing in the cache: the component is compiled.
    pub cold_ms: f64,
    /// With compiled code in the cache.
    pub warm_ms: f64,
}

/// Starts `host run` with the program `component` again and again, cold and warm in turn, each pair with a
/// cache of its own.
pub fn run(host: &Path, component: &Path, rounds: usize) -> Result<StartReport> {
    ensure!(rounds > 0, "--rounds must be at least 1");
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let cache = std::env::temp_dir().join(format!("conet-bench-{}-{round}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&cache)
            .with_context(|| format!("cannot make {}", cache.display()))?;
        let pair =
            start(host, component, &cache).and_then(|cold| Ok((cold, start(host, component, &cache)?)));
        fs::remove_dir_all(&cache)?;
        let pair = pair?;
        cold.push(pair.0);
        warm.push(pair.1);
    }
    Ok(StartReport { rounds, cold_ms: median_ms(cold), warm_ms: median_ms(warm) })
}

fn start(host: &Path, component: &Path, cache: &Path) -> Result<Duration> {
    let mut command = Command::new(host);
    command.arg("run").arg("--cache").arg(cache).arg(component).arg("127.0.0.1:0");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {}", host.display()))?;
    let stderr = child.stderr.take().expect("it is piped");
    let mut said = String::new();
    let mut took = None;
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        if line.starts_with("listening on") {
            took = Some(began.elapsed());
            // It was ours to start, and has not been waited for: the number is still its own.
            kill_process(Pid::from_child(&child), Signal::TERM)?;
        }
        said.push_str(&line);
        said.push('\n');
    }
    child.wait()?;
    took.with_context(|| format!("{command:?} did not listen:\n{said}"))
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

impl fmt::Display for StartReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, cold_ms, warm_ms } = self;
        write!(f, "start to listening: cold {cold_ms:.0} ms, warm {warm_ms:.0} ms (medians of {rounds})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_does_not_listen_is_an_error_with_what_it_said() {
        let error = run(Path::new("/bin/sh"), Path::new("-c"), 1).expect_err("no host");
        assert!(format!("{error:#}").contains("did not listen"), "{error:#}");
    }

    #[test]
    fn the_median_is_the_middle_one() {
        let times = [5, 1, 9].map(Duration::from_millis);
        assert_eq!(median_ms(times.to_vec()), 5.0);
    }
}
