//! What the service manager is told, where there is one: systemd, or who else names a socket in NOTIFY_SOCKET.
//!
//! The protocol is systemd's (sd_notify(3)): a datagram of lines. There are libraries for it that connect anew for each,
//! which this process may not do once its wall is up.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    sync::Arc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use crate::wall::launcher::SUCCEEDS;

/// Where it is told; nowhere, if nobody wants to know.
#[derive(Debug, Clone)]
pub(super) struct Notify(Option<Arc<UnixDatagram>>);

impl Notify {
    /// As the environment says. To be called before the wall goes up.
    pub(super) fn from_environment() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Self(None) };
        let connected = connect(&address).inspect_err(|error| {
            warn!("the service manager cannot be told of this host: NOTIFY_SOCKET is {address:?}: {error}");
        });
        Self(connected.ok().map(Arc::new))
    }

    /// All listens; or what the file has come to say is taken up, or refused.
    pub(super) fn ready(&self, status: &str) {
        self.tell(format_args!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// The file is being read again; [`ready`](Self::ready) follows.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(format_args!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=reading the file again"));
    }

    /// The end has begun, and may take this long. The unit's own patience may be shorter.
    pub(super) fn stopping(&self, drain_max: Duration, status: &str) {
        let usec = drain_max.saturating_add(END_MAX).as_micros();
        self.tell(format_args!("STOPPING=1\nEXTEND_TIMEOUT_USEC={usec}\nSTATUS={}", one_line(status)));
    }

    /// Another process is the host from here on. This one has nothing to tell any more.
    pub(super) fn hand_over(&mut self, process: u32) {
        self.tell(format_args!("MAINPID={process}"));
        self.0 = None;
    }

    /// The host is alive.
    pub(super) fn alive(&self) {
        self.tell(format_args!("WATCHDOG=1"));
    }

    fn tell(&self, lines: std::fmt::Arguments<'_>) {
        let Some(socket) = &self.0 else { return };
        // Nothing of what this host does depends on it.
        if let Err(error) = socket.send(lines.to_string().as_bytes()) {
            warn!("the service manager cannot be told of this host: {error}");
        }
    }
}

/// How often the service manager wants to hear that this process is alive, if it does.
pub(super) fn watchdog_period() -> Option<Duration> {
    let usec = env::var("WATCHDOG_USEC").ok()?.parse().ok().filter(|usec| *usec > 0)?;
    let (whose, before) = (env::var("WATCHDOG_PID").ok(), env::var(SUCCEEDS).ok());
    // A host that takes over from another is asked in its place.
    let ours = |whose: String| whose.parse() == Ok(process::id()) || Some(whose) == before;
    whose.is_none_or(ours).then(|| Duration::from_micros(usec))
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes() {
        [b'/', ..] => socket.connect(address)?,
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => return Err(io::Error::other("it is neither a path nor an abstract socket (`@…`)")),
    }
    // Whoever does not read must not hold this host up for long.
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn one_line(status: &str) -> String {
    status.trim_end().replace('\n', "; ")
}

/// For one datagram.
const PATIENCE: Duration = Duration::from_secs(1);
/// What the end takes beyond the drain: threads that are waited for, output that is flushed.
const END_MAX: Duration = Duration::from_secs(5);
