//! One thread of the generator: an epoll loop over its share of the connections.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;

use super::connection::{Connection, Fault, Peer};
use super::pattern::{PERIOD, Pattern};
use super::schedule::Schedule;
use super::tally::{Outcome, Tally, Window};
use super::{Pace, Plan};

pub(super) struct Generator<'a> {
    pattern: &'a Pattern,
    peer: Peer,
    size: usize,
    pace: Pace,
    spin: bool,
    verify: bool,
    server_pid: Option<u32>,
    /// Number of the first connection, over all threads, and the step to the next.
    thread: usize,
    threads: usize,
    share: usize,
    /// Requests still to be sent, if that is what ends the load.
    unsent: Option<u64>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    /// A lost one leaves its place empty.
    connections: Vec<Option<Connection>>,
}

/// What to do with answers.
enum Phase<'t> {
    /// Count them.
    Ramp { answered: usize },
    /// Tally them, and in a closed loop send the next request.
    Load(&'t mut Tally),
    /// Tally them.
    Drain(&'t mut Tally),
}

impl<'a> Generator<'a> {
    pub(super) fn new(plan: &Plan, thread: usize, pattern: &'a Pattern) -> Result<Self> {
        let share = share_of(plan.connections as u64, thread as u64, plan.threads as u64) as usize;
        Ok(Self {
            pattern,
            peer: plan.peer,
            size: plan.size,
            pace: plan.pace,
            spin: plan.spin,
            verify: plan.verify,
            // One thread asks for all.
            server_pid: plan.server_pid.filter(|_| thread == 0),
            thread,
            threads: plan.threads,
            share,
            unsent: plan.requests.map(|requests| share_of(requests, thread as u64, plan.threads as u64)),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; PERIOD],
            connections: Vec::with_capacity(share),
        })
    }

    /// Opens the connections, a few at a time so that no backlog overflows, each until its first echo.
    pub(super) fn ramp(&mut self) -> Result<()> {
        let mut phase = Phase::Ramp { answered: 0 };
        let (mut answered, mut progress) = (0, Instant::now());
        while answered < self.share {
            while self.connections.len() < self.share.min(answered + RAMP_WIDTH) {
                self.open().with_context(|| format!("after {answered} connections"))?;
            }
            self.wait(progress + RAMP_PATIENCE)?;
            self.handle_events(&mut phase).map_err(|fault| {
                anyhow::anyhow!("{}: {fault}, after {answered} connections", self.peer_name())
            })?;
            let Phase::Ramp { answered: now_answered } = phase else { unreachable!("the phase is the ramp") };
            if now_answered > answered {
                (answered, progress) = (now_answered, Instant::now());
            } else if progress.elapsed() >= RAMP_PATIENCE {
                bail!(
                    "{} did not echo within {RAMP_PATIENCE:?}, after {answered} connections",
                    self.peer_name()
                );
            }
        }
        Ok(())
    }

    /// Runs the load until the end of `window`, then waits for what is still in flight.
    pub(super) fn run(mut self, window: Window) -> Result<Outcome> {
        // The default of 50 µs would show in every latency of an open loop.
        set_current_timer_slack(std::num::NonZeroU64::new(1)).context("cannot set the timer slack")?;
        let mut tally = Tally::new(window, self.server_pid);
        match self.pace {
            Pace::Closed { depth } => self.closed(depth, window, &mut tally)?,
            Pace::Open { rate } => self.open_loop(rate, window, &mut tally)?,
            Pace::Connect => self.connecting(window, &mut tally)?,
            Pace::Arrive { rate } => self.arriving(rate, window, &mut tally)?,
        }
        tally.close()?;
        self.drain(&mut tally)?;
        Ok(tally.finish())
    }

    fn closed(&mut self, depth: usize, window: Window, tally: &mut Tally) -> Result<()> {
        for index in 0..self.connections.len() {
            let now = Instant::now();
            for _ in 0..depth {
                if take(&mut self.unsent) {
                    self.request(index, now);
                }
            }
            self.flush(index, tally);
        }
        self.until_done(window, tally)
    }

    /// Goes from event to event.
    fn until_done(&mut self, window: Window, tally: &mut Tally) -> Result<()> {
        loop {
            let now = Instant::now();
            if tally.tick(now)?.is_zero() || self.done() || !self.alive() {
                return Ok(());
            }
            self.wait(if self.spin { now } else { window.to })?;
            if self.spin && self.events.is_empty() {
                tally.spun(now, Instant::now());
            }
            let Ok(()) = self.handle_events(&mut Phase::Load(tally)) else {
                unreachable!("faults are tallied")
            };
        }
    }

    fn connecting(&mut self, window: Window, tally: &mut Tally) -> Result<()> {
        for index in 0..self.connections.len() {
            self.renew(index)?;
        }
        self.until_done(window, tally)
    }

    fn open_loop(&mut self, rate: u64, window: Window, tally: &mut Tally) -> Result<()> {
        let start = Instant::now();
        let mut schedule = Schedule::new(rate, self.thread, self.threads);
        let mut turn = 0;
        loop {
            let now = Instant::now();
            if tally.tick(now)?.is_zero() || !self.alive() {
                return Ok(());
            }
            while let Some(due) = schedule.take(now - start) {
                while self.connections[turn % self.share].is_none() {
                    turn += 1;
                }
                self.request(turn % self.share, start + due);
                tally.sent(start + due, Instant::now());
                self.flush(turn % self.share, tally);
                turn += 1;
                if !self.alive() {
                    return Ok(());
                }
            }
            self.wait_exactly(window.to.min(start + schedule.next_due()))?;
            let Ok(()) = self.handle_events(&mut Phase::Load(tally)) else {
                unreachable!("faults are tallied")
            };
        }
    }

    fn arriving(&mut self, rate: u64, window: Window, tally: &mut Tally) -> Result<()> {
        // The ramp's have shown that the server answers.
        self.connections.fill_with(|| None);
        let start = Instant::now();
        let mut schedule = Schedule::new(rate, self.thread, self.threads);
        loop {
            let now = Instant::now();
            if tally.tick(now)?.is_zero() {
                return Ok(());
            }
            while let Some(free) = self.connections.iter().position(Option::is_none)
                && let Some(due) = schedule.take(now - start)
            {
                self.connections[free] = Some(self.connect(free, start + due)?);
                tally.sent(start + due, Instant::now());
            }
            let full = self.connections.iter().all(Option::is_some);
            let next = if full { window.to } else { start + schedule.next_due() };
            self.wait_exactly(window.to.min(next))?;
            let Ok(()) = self.handle_events(&mut Phase::Load(tally)) else {
                unreachable!("faults are tallied")
            };
        }
    }

    /// Waits for the answers still due, and gives up on them when nothing has come for [`DRAIN_PATIENCE`].
    fn drain(&mut self, tally: &mut Tally) -> Result<()> {
        let mut until = Instant::now() + DRAIN_PATIENCE;
        while self.in_flight() && Instant::now() < until {
            self.wait(until)?;
            if !self.events.is_empty() {
                until = Instant::now() + DRAIN_PATIENCE;
            }
            let Ok(()) = self.handle_events(&mut Phase::Drain(tally)) else {
                unreachable!("faults are tallied")
            };
        }
        let now = Instant::now();
        tally.never_sent(self.unsent.unwrap_or(0));
        for start in self.connections.iter().flatten().flat_map(Connection::unanswered) {
            tally.unanswered(start, now);
        }
        Ok(())
    }

    /// Adds a connection.
    fn open(&mut self) -> Result<()> {
        let connection = self
            .connect(self.connections.len(), Instant::now())
            .map_err(|errno| anyhow::anyhow!("{}: {}", self.peer_name(), explain(errno)))?;
        self.connections.push(Some(connection));
        Ok(())
    }

    /// Resets a connection and makes another in its place, with a request to begin with, if there is one left
    /// to be sent.
    fn renew(&mut self, index: usize) -> Result<(), Errno> {
        self.connections[index] = None;
        if take(&mut self.unsent) {
            self.connections[index] = Some(self.connect(index, Instant::now())?);
        }
        Ok(())
    }

    /// Begins a connection, with its first request, meant for `start`.
    fn connect(&self, index: usize, start: Instant) -> Result<Connection, Errno> {
        let mut connection = Connection::open(self.peer, self.thread + index * self.threads)?;
        if self.pace.connects() {
            connection.reset_when_dropped()?;
        }
        connection.request(start, self.size);
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &connection.socket, EventData::new_u64(index as u64), interest)?;
        Ok(connection)
    }

    fn request(&mut self, index: usize, start: Instant) {
        if let Some(connection) = &mut self.connections[index] {
            connection.request(start, self.size);
        }
    }

    fn flush(&mut self, index: usize, tally: &mut Tally) {
        let Some(connection) = &mut self.connections[index] else { return };
        if let Err(fault) = connection.flush(self.pattern) {
            self.lose(index, fault, tally);
        }
    }

    /// Handles the events of the last wait. Fails only in the ramp; later a fault costs its connection.
    fn handle_events(&mut self, phase: &mut Phase) -> Result<(), Fault> {
        for event in 0..self.events.len() {
            let Event { flags, data, .. } = self.events[event];
            let index = data.u64() as usize;
            let Err(fault) = self.handle(index, flags, phase) else { continue };
            match phase {
                Phase::Ramp { .. } => return Err(fault),
                Phase::Load(tally) | Phase::Drain(tally) => self.lose(index, fault, tally),
            }
        }
        self.events.clear();
        Ok(())
    }

    fn handle(&mut self, index: usize, flags: EventFlags, phase: &mut Phase) -> Result<(), Fault> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        let ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let mut more = ending || flags.contains(EventFlags::IN);
        if flags.contains(EventFlags::OUT) && !ending {
            connection.writable();
        }
        while more {
            let received = connection.receive(&mut self.buffer, self.pattern, self.verify)?;
            // A part that does not fill the buffer was the last, unless the end of the stream stands behind
            // it.
            more = received == self.buffer.len() || (ending && received > 0);
            let now = Instant::now();
            while let Some(start) = connection.take_answered(self.size) {
                match phase {
                    Phase::Ramp { answered } => *answered += 1,
                    Phase::Load(tally) => {
                        tally.answered(start, now);
                        if let Pace::Closed { .. } = self.pace
                            && take(&mut self.unsent)
                        {
                            connection.request(now, self.size);
                        }
                        if self.pace == Pace::Connect {
                            return Ok(self.renew(index)?);
                        }
                        if let Pace::Arrive { .. } = self.pace {
                            self.connections[index] = None;
                            return Ok(());
                        }
                    }
                    Phase::Drain(tally) => tally.answered(start, now),
                }
            }
        }
        connection.flush(self.pattern)
    }

    /// Drops a connection; what it had in flight will not be answered.
    fn lose(&mut self, index: usize, fault: Fault, tally: &mut Tally) {
        let Some(connection) = self.connections[index].take() else { return };
        let now = Instant::now();
        connection.unanswered().for_each(|start| tally.unanswered(start, now));
        if let Fault::WrongBytes { position } = fault {
            eprintln!("connection {index}: wrong bytes at or after position {position}");
        }
        tally.lost(fault.to_string());
    }

    /// Fills `events`, waiting for some until `deadline`, to the millisecond.
    fn wait(&mut self, deadline: Instant) -> Result<()> {
        let timeout = timespec(deadline.saturating_duration_since(Instant::now()));
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("epoll_wait"),
        }
    }

    /// Like [`Self::wait`], to the timer's precision: epoll_wait counts milliseconds, ppoll does not.
    fn wait_exactly(&mut self, deadline: Instant) -> Result<()> {
        let timeout = timespec(deadline.saturating_duration_since(Instant::now()));
        match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => self.wait(Instant::now()),
            Err(error) => Err(error).context("ppoll"),
        }
    }

    fn alive(&self) -> bool {
        self.connections.iter().any(Option::is_some)
    }

    /// All that were to be sent have been, and are answered.
    fn done(&self) -> bool {
        self.unsent == Some(0) && !self.in_flight()
    }

    fn in_flight(&self) -> bool {
        self.connections.iter().flatten().any(|connection| connection.in_flight() > 0)
    }

    fn peer_name(&self) -> String {
        match self.peer {
            Peer::Server(address) => address.to_string(),
            Peer::Null => "a connection to itself".into(),
        }
    }
}

/// What falls to one of `threads`.
fn share_of(all: u64, thread: u64, threads: u64) -> u64 {
    (all + threads - 1 - thread) / threads
}

/// Takes one, if there is a limit; gives whether one was left.
fn take(unsent: &mut Option<u64>) -> bool {
    match unsent {
        None => true,
        Some(0) => false,
        Some(left) => {
            *left -= 1;
            true
        }
    }
}

fn explain(errno: Errno) -> String {
    match errno {
        Errno::ADDRNOTAVAIL => {
            "no local port is free: wait for old connections to leave TIME_WAIT, or widen net.ipv4.ip_local_port_range".into()
        }
        errno => errno.to_string(),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}

/// Events taken per wait: few enough that the schedule of an open loop is looked at often.
const EVENTS: usize = 128;

/// Connections without their first echo at a time, well below a default backlog.
const RAMP_WIDTH: usize = 64;

/// How long the ramp goes without progress; a SYN that was dropped is sent again after 1 s, 3 s and 7 s.
const RAMP_PATIENCE: Duration = Duration::from_secs(10);

/// How long answers are waited for after the measured time, or after what came last: large loads take their
/// time.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
