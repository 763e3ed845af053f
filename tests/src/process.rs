//! A process seen from outside: signals, limits, and what `/proc` says.

use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
pub use rustix::process::Signal;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit};

use crate::PATIENCE;

/// What the system waits for on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpTimer {
    /// To see whether the peer is still there.
    Keepalive,
    /// Acknowledgements, and what else there is.
    Other,
}

/// A live process of ours.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: Pid,
}

impl Process {
    /// The process `id`, which must be a child of this one so that the number stays its own.
    pub fn of(id: u32) -> Self {
        Self { pid: Pid::from_raw(id as i32).expect("a child's id is positive") }
    }

    /// Sends a signal.
    pub fn signal(self, signal: Signal) {
        rustix::process::kill_process(self.pid, signal).expect("the process is ours and not reaped");
    }

    /// Waits for its end, without reaping it; whether it came within `limit`.
    pub fn wait_end(self, limit: Duration) -> bool {
        match rustix::process::pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(ended) => readable(&ended, limit),
            // Of one that is not ours to reap, somebody else has.
            Err(rustix::io::Errno::SRCH) => true,
            Err(error) => panic!("process {}: {error}", self.pid),
        }
    }

    /// Resident memory, in bytes.
    pub fn rss_bytes(self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// Open file descriptors.
    pub fn fds(self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the process is alive").count()
    }

    /// Whether one of them is of this kind, as `/proc` names it.
    pub fn has_descriptor(self, kind: &str) -> bool {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the process is alive");
        fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == kind))
    }

    /// The loopback port it listens on, once it does.
    pub fn listening(self) -> SocketAddr {
        let start = Instant::now();
        loop {
            if let Some(port) = self.listening_now() {
                return (Ipv4Addr::LOCALHOST, port).into();
            }
            assert!(start.elapsed() < PATIENCE, "process {} listens on nothing", self.pid);
        }
    }

    fn listening_now(self) -> Option<u16> {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the process is alive");
        let links: Vec<_> = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()).collect();
        let sockets =
            std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid)).expect("the process is alive");
        sockets.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let &[_, local, _, state, _, _, _, _, _, inode, ..] = &fields[..] else { return None };
            let socket = format!("socket:[{inode}]");
            // 0A is LISTEN.
            let own = state == "0A" && links.iter().any(|link| link.as_os_str() == socket.as_str());
            u16::from_str_radix(local.rsplit(':').next()?, 16).ok().filter(|_| own)
        })
    }

    /// What the timer of its end of a connection over IPv4 is for, and when it goes off: `None` if none is set.
    pub fn tcp_timer(self, own: SocketAddr, peer: SocketAddr) -> Option<(TcpTimer, Duration)> {
        let sockets =
            std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid)).expect("the process is alive");
        let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
        let of = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let &[_, local, remote, _, _, timer, ..] = &fields[..] else { return None };
            (port(local) == Some(own.port()) && port(remote) == Some(peer.port())).then(|| timer.to_owned())
        };
        let timer = sockets.lines().find_map(of).expect("the connection is there");
        let (kind, ticks) = timer.split_once(':').expect("as proc(5) has it");
        let kind = match kind {
            "00" => return None,
            "02" => TcpTimer::Keepalive,
            _ => TcpTimer::Other,
        };
        let ticks = u64::from_str_radix(ticks, 16).expect("as proc(5) has it");
        let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Some((kind, Duration::from_secs_f64(seconds)))
    }

    /// Memory mappings.
    pub fn mappings(self) -> usize {
        let maps = std::fs::read(format!("/proc/{}/maps", self.pid)).expect("the process is alive");
        maps.iter().filter(|&&byte| byte == b'\n').count()
    }

    /// CPU time it has used, in user and system.
    pub fn cpu(self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("the process is alive");
        // The name in parentheses may hold anything, so count from its end: utime and stime are fields 14 and 15.
        let fields = stat.rsplit(')').next().expect("rsplit gives at least one").split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Those of its children that compile.
    pub fn compilers(self) -> Vec<Self> {
        let compiles = |child: &Self| {
            // Of one that has ended, it is empty.
            child.proc_file("cmdline").is_some_and(|line| !line.contains("\0--\0"))
        };
        self.children().into_iter().filter(compiles).collect()
    }

    /// Those that it has started, and not reaped.
    pub fn children(self) -> Vec<Self> {
        let all = std::fs::read_dir("/proc").expect("it is mounted").flatten();
        let pids = all.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        pids.map(|pid| Self { pid }).filter(|process| process.parent() == Some(self.pid)).collect()
    }

    /// Whether it has ended, reaped or not.
    pub fn ended(self) -> bool {
        self.stat().is_none_or(|stat| stat.starts_with('Z'))
    }

    /// Its state's letter and all after it; none if it is gone. It may go at any time if it is not our child.
    fn stat(self) -> Option<String> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The name in parentheses may hold anything.
        Some(stat.rsplit_once(") ")?.1.to_owned())
    }

    fn parent(self) -> Option<Pid> {
        Pid::from_raw(self.stat()?.split(' ').nth(1)?.parse().ok()?)
    }

    /// A file of its folder in `/proc`; none if it has ended.
    pub fn proc_file(self, name: &str) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.pid)).ok()
    }

    /// Its number.
    pub fn id(self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends a signal, if it has not ended. Only for what this process's own children have started.
    pub fn signal_if_there(self, signal: Signal) {
        // That it has is as good.
        let _ = rustix::process::kill_process(self.pid, signal);
    }

    /// Lowers the limit of open files, soft and hard.
    pub fn limit_fds(self, most: usize) {
        let limit = Rlimit { current: Some(most as u64), maximum: Some(most as u64) };
        rustix::process::prlimit(Some(self.pid), Resource::Nofile, limit)
            .expect("lowering a limit is allowed");
    }

    /// A field of the status of each of its threads, by the thread's name.
    pub fn of_threads(self, key: &str) -> Vec<(String, String)> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).expect("the process is alive");
        let statuses =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
        let field = |status: &str, key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
        };
        statuses.map(|status| (field(&status, "Name"), field(&status, key))).collect()
    }

    fn status(self, key: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process is alive");
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {key} in the status of process {}", self.pid))
    }
}

/// Waits until there is something to read, or the end; whether it came within `limit`.
pub(crate) fn readable(source: &impl AsFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos() as _ };
    matches!(poll(&mut [PollFd::new(source, PollFlags::IN)], Some(&limit)), Ok(1))
}

/// Raises this process's limit of open files to at least `needed`; panics with the remedy when it cannot.
pub fn need_fds(needed: u64) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    assert!(
        limit.maximum.is_none_or(|most| most >= needed),
        "this test needs {needed} open files, the hard limit is {:?}: raise it with `ulimit -Hn {needed}`",
        limit.maximum,
    );
    rustix::process::setrlimit(Resource::Nofile, raised)
        .expect("the soft limit may be raised to the hard one");
}

/// Descriptors that this process may still open.
pub fn fds_left() -> usize {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count());
    (most as usize).saturating_sub(open)
}

/// A port of loopback that nobody listens on, below those that the system gives out itself. Each is given once: who has one may
/// leave it for a while.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    // Each process begins elsewhere.
    let from = 20_000 + (std::process::id() % 8_000) as u16;
    let next = || GIVEN.fetch_add(1, Ordering::Relaxed);
    iter::repeat_with(next)
        .take(4_000)
        .map(|given| from + given % 4_000)
        .find(free)
        .expect("some port is free")
}
