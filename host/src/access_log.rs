//! The access log: a line for each connection when it ends. Lines are lost rather than waited for, and counted.

mod line;
mod target;

use std::sync::Arc;

pub use line::{Direction, Line};
pub use target::Target;

use crate::{metrics::Metrics, rate::Rate};

/// A tenant's part in it.
pub struct AccessLog {
    target: Arc<Target>,
    rate: Arc<Rate>,
    metrics: Arc<Metrics>,
}

impl AccessLog {
    /// Of a tenant with these counters, at the [`lines_rate`] that it has.
    pub fn new(target: Arc<Target>, rate: Arc<Rate>, metrics: Arc<Metrics>) -> Self {
        Self { target, rate, metrics }
    }

    /// Takes a line, without waiting.
    pub fn write(&self, line: &Line<'_>) {
        if !(self.rate.try_take(1) && self.target.offer(line)) {
            self.metrics.access_lines_lost.increment();
        }
    }
}

/// Of one tenant: as many as it may have in a second.
pub fn lines_rate() -> Arc<Rate> {
    Arc::new(Rate::new(LINES_PER_SECOND, LINES_PER_SECOND))
}

/// No flood of connections to one takes the disk, or the queue, from the others.
const LINES_PER_SECOND: u64 = 10_000;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{config::file::LogFormat, ending::Ending};

    /// As fast as one thread can.
    #[test]
    fn a_flood_has_its_lines_a_second_and_the_rest_is_counted() {
        const FLOOD: u64 = 100_000;
        let path = std::env::temp_dir().join(format!("conet-access-{}.log", std::process::id()));
        let target = Arc::new(Target::file(&path, LogFormat::Text).expect("a file"));
        let metrics = Arc::new(Metrics::default());
        let log = AccessLog::new(target.clone(), lines_rate(), metrics.clone());
        let begun = Instant::now();
        for _ in 0..FLOOD {
            log.write(&Line {
                tenant: "t",
                direction: Direction::In,
                listener: None,
                peer: ([127, 0, 0, 1], 1).into(),
                proxy: None,
                coroutine: None,
                received: 0,
                sent: 0,
                duration: Duration::ZERO,
                end: Ending::Finished,
            });
        }
        let most = (LINES_PER_SECOND as f64 * (1.0 + begun.elapsed().as_secs_f64())).ceil() as u64;
        target.finish();
        let written = std::fs::read_to_string(&path).expect("it is there").lines().count() as u64;
        std::fs::remove_file(&path).expect("it is ours");
        assert_eq!(written + metrics.access_lines_lost.value(), FLOOD);
        assert!((1..=most).contains(&written), "{written} of {most}");
    }
}
