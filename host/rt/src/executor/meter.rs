//! Whom this thread's CPU time is charged to.
//!
//! The clock is the thread's own CPU time: while the system runs something else here, or the worker sleeps, it stands
//! still. It costs a system call, more than a short task does. The time of day costs a twentieth of that, and is read
//! after each task anyway. So bursts that follow each other are charged by the time of day as long as they are short
//! together, and by the CPU clock once they are not: to whom the system has taken the thread from, the burst was long.
//!
//! A group that is alone keeps its span over many bursts, and over the looks at its sockets between them.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Measures spans of one thread's CPU time.
pub(super) struct Meter {
    clock: fn() -> Reading,
    span: Span,
    last: Reading,
    /// Nanoseconds since then that have been charged, by the time of day.
    charged: u64,
}

/// Both clocks, at one time.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    /// CPU time of the thread in nanoseconds.
    pub(super) cpu: u64,
    pub(super) at: Instant,
}

/// What has gone on since what has been charged last.
#[derive(Clone, Copy)]
enum Span {
    /// The worker's own work, which nobody is charged for.
    Own,
    /// Nothing.
    None,
    /// Work of this queue, with looks at the sockets between, or not.
    Of { queue: usize, looked: bool },
}

/// CPU time to charge to a queue.
pub(super) struct Charge {
    pub(super) queue: usize,
    pub(super) nanos: u64,
}

impl Meter {
    pub(super) fn new(clock: fn() -> Reading) -> Meter {
        Meter { clock, span: Span::Own, last: clock(), charged: 0 }
    }

    /// The worker has looked at its sockets. Who is alone is charged for that, else nobody is.
    pub(super) fn looked(&mut self) {
        match &mut self.span {
            Span::Of { looked, .. } => *looked = true,
            span => *span = Span::Own,
        }
    }

    /// A burst of this queue begins.
    pub(super) fn start(&mut self, queue: usize, now: Instant) -> Option<Charge> {
        if self.is_of(queue) {
            return None;
        }
        let charge = self.settle(now);
        if let Span::Own = self.span {
            self.read();
        }
        self.span = Span::Of { queue, looked: false };
        charge
    }

    /// Ends a span, if there is one.
    pub(super) fn settle(&mut self, now: Instant) -> Option<Charge> {
        let Span::Of { queue, looked } = self.span else { return None };
        self.span = Span::None;
        let passed = now.saturating_duration_since(self.last.at);
        if looked || passed >= SHORT_MAX {
            return Some(Charge { queue, nanos: self.read() });
        }
        // At most SHORT_MAX.
        let nanos = passed.as_nanos() as u64 - self.charged;
        self.charged += nanos;
        Some(Charge { queue, nanos })
    }

    /// Charges for a span that has gone on for long, and goes on.
    pub(super) fn settle_old(&mut self, now: Instant) -> Option<Charge> {
        let Span::Of { queue, .. } = self.span else { return None };
        if now - self.last.at < ALONE_MAX {
            return None;
        }
        self.span = Span::Of { queue, looked: false };
        Some(Charge { queue, nanos: self.read() })
    }

    pub(super) fn is_of(&self, whose: usize) -> bool {
        matches!(self.span, Span::Of { queue, .. } if queue == whose)
    }

    /// Reads the clocks; tells what has not been charged since the last time.
    fn read(&mut self) -> u64 {
        let now = (self.clock)();
        let passed = now.cpu.saturating_sub(self.last.cpu);
        let charged = std::mem::take(&mut self.charged);
        self.last = now;
        // What was charged by the time of day may be a little more.
        passed.saturating_sub(charged)
    }
}

/// This thread's clocks.
pub(super) fn thread_clock() -> Reading {
    let time = clock_gettime(CPU_CLOCK);
    // Both are positive, and the sum fits for centuries.
    let cpu = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    Reading { cpu, at: Instant::now() }
}

/// Miri has no clock of a thread.
const CPU_CLOCK: ClockId = if cfg!(miri) { ClockId::Monotonic } else { ClockId::ThreadCPUTime };
/// How long the time of day stands for CPU time. The system hardly ever takes a thread's processor for less.
const SHORT_MAX: Duration = Duration::from_micros(50);
/// How late a lone group's use may be charged. A group that joins it starts level with what has been charged, so this and
/// a burst is also the most that it can be behind then.
const ALONE_MAX: Duration = Duration::from_millis(1);
