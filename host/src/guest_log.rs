//! What a tenant's guests print, as lines of the host's log: each with who printed it, within a rate, and such that
//! no line can pass for another's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    config::{units::show_size, warn::Warn},
    metrics::Metrics,
    rate::Rate,
    warnings::Warnings,
};

/// The log of one tenant's guests.
pub struct GuestLog {
    tenant: String,
    rate: Arc<Rate>,
    line_bytes_max: usize,
    metrics: Arc<Metrics>,
    warnings: Arc<Warnings>,
    /// Lines left out since the last one that was not.
    lost: AtomicU64,
}

/// One of a guest's streams: bytes in, lines out. What is not a whole line yet is kept until it is, or the stream drops.
pub struct LineWriter {
    log: Arc<GuestLog>,
    stream: &'static str,
    /// Who writes.
    coroutine: Arc<AtomicU64>,
    line: Vec<u8>,
    /// The rest of the line is left out.
    cut: bool,
}

impl GuestLog {
    /// A tenant's, of so many bytes in lines of so many at most.
    pub fn new(
        tenant: &str,
        rate: Arc<Rate>,
        line_bytes_max: usize,
        metrics: Arc<Metrics>,
        warnings: Arc<Warnings>,
    ) -> Arc<Self> {
        Arc::new(Self {
            tenant: tenant.to_owned(),
            rate,
            line_bytes_max,
            metrics,
            warnings,
            lost: AtomicU64::new(0),
        })
    }

    /// A stream, of whichever coroutine writes: a line is whose who ends it.
    pub fn writer(self: &Arc<Self>, stream: &'static str, coroutine: &Arc<AtomicU64>) -> LineWriter {
        LineWriter { log: self.clone(), stream, coroutine: coroutine.clone(), line: Vec::new(), cut: false }
    }

    fn allows(&self, bytes: u64) -> bool {
        let warns = self.warnings.lets_pass(Warn::LogRate);
        let needed = warns.then(|| self.warnings.rate_seen(Warn::LogRate, bytes, BURST));
        if self.rate.try_take(bytes) {
            return true;
        }
        if let Some(needed) = needed {
            let line = show_size(needed.next_multiple_of(1 << 10));
            self.warnings.would_deny(Warn::LogRate, "lines that guests print", format_args!("{line:?}"));
        }
        warns
    }

    fn line(&self, stream: &str, coroutine: u64, line: &[u8], cut: bool) {
        let bytes = line.len() as u64 + LINE_OVERHEAD_BYTES;
        if !self.allows(bytes) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.metrics.log_lines_lost.increment();
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(tenant = %self.tenant, lost, "more was printed than log-rate allows: lines are lost");
        }
        // Quoted, so that what it says is told from what the host says, and its control characters are seen.
        let text = String::from_utf8_lossy(line);
        let text: &str = &text;
        let tenant = &self.tenant;
        match cut {
            false => tracing::info!(target: "guest", %tenant, coroutine, stream, line = ?text, "guest"),
            true => tracing::info!(target: "guest", %tenant, coroutine, stream, cut, line = ?text, "guest"),
        }
    }
}

impl LineWriter {
    /// Takes bytes as they come.
    pub fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = self.log.line_bytes_max.saturating_sub(self.line.len());
            self.cut |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        self.log.line(self.stream, self.coroutine.load(Ordering::Relaxed), &self.line, self.cut);
        self.line.clear();
        self.cut = false;
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }
}

/// What may be printed at once after a pause, as seconds of the rate.
pub const BURST_SECONDS: u64 = 4;
const BURST: Duration = Duration::from_secs(BURST_SECONDS);
/// An empty line is one, too.
const LINE_OVERHEAD_BYTES: u64 = 64;
