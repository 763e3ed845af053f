//! Listening sockets that were handed to this process, by address: systemd's socket activation, or another process's.
//!
//! Whoever listens on the address of one has it in place of a new one, as often as somebody does: it stays open beside, so a
//! tenant that a reload takes away and another brings back finds it again, with the peers that wait in it.

use std::{
    env, fmt, io,
    net::{SocketAddr, TcpListener},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use conet_rt::net::ListenOptions;
use listenfd::ListenFd;
use rustix::net::{ipproto, sockopt};

use super::listeners::canonical;

/// The sockets.
#[derive(Debug, Default)]
pub struct Given(Mutex<Vec<Socket>>);

#[derive(Debug)]
struct Socket {
    is: Named,
    listener: TcpListener,
    /// There is something in it while somebody listens on a duplicate.
    holder: Weak<()>,
}

/// A socket as it is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// What who handed it over calls it.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Where somebody listens now.
pub struct Bound {
    /// A duplicate of the socket given there, or a new one.
    pub listener: TcpListener,
    /// Of a given one: kept as long as it is listened on, so that nobody else is given it.
    pub held: Option<Held>,
}

/// Held beside a duplicate.
#[derive(Debug)]
pub struct Held {
    _held: Arc<()>,
}

/// What is handed over and cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the descriptor `{name}` that this process was started with (LISTEN_FDS) cannot be listened on: {why}"
)]
pub struct Unusable {
    name: String,
    why: String,
}

impl Given {
    /// What the environment tells of, if that is meant for this process. To be called once, before anything else opens a descriptor
    /// and while there is one thread.
    pub fn from_environment() -> Result<Self, Unusable> {
        // Without a process it is nobody's: what a parent was given, say.
        let ours = env::var("LISTEN_PID").is_ok_and(|id| id.parse() == Ok(process::id()));
        let Some(count) = env::var("LISTEN_FDS").ok().filter(|_| ours) else { return Ok(Self::default()) };
        if !count.parse().is_ok_and(|count: u16| count <= SOCKETS_MAX) {
            let why = format!("LISTEN_FDS is {count:?}, and a number up to {SOCKETS_MAX} is wanted");
            return Err(Unusable { name: "3".to_owned(), why });
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for nth in 0..passed.len() {
            let name = names.next().filter(|name| !name.is_empty());
            let name = name.map_or_else(|| (FIRST + nth).to_string(), str::to_owned);
            let unusable = |error: io::Error| Unusable { name: name.clone(), why: error.to_string() };
            let listener = passed.take_tcp_listener(nth).map_err(unusable)?;
            sockets.push((name, listener.expect("each is taken once")));
        }
        Self::of(sockets)
    }

    /// Of these, each with its name.
    pub fn of(sockets: impl IntoIterator<Item = (String, TcpListener)>) -> Result<Self, Unusable> {
        let sockets = sockets.into_iter().map(|(name, listener)| Socket::new(name, listener));
        Ok(Self(Mutex::new(sockets.collect::<Result<_, _>>()?)))
    }

    /// With more, that another process was given.
    pub fn with(self, more: impl IntoIterator<Item = (String, TcpListener)>) -> Result<Self, Unusable> {
        let mut all = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (name, listener) in more {
            all.push(Socket::new(name, listener)?);
        }
        Ok(Self(Mutex::new(all)))
    }

    /// A duplicate of each, whoever listens on it, for another process.
    pub fn duplicates(&self) -> io::Result<Vec<(Named, TcpListener)>> {
        self.lock().iter().map(|socket| Ok((socket.is.clone(), socket.listener.try_clone()?))).collect()
    }

    /// The socket that was given at this address, unless somebody listens on it already; or else a new one.
    pub fn listen(&self, address: SocketAddr, options: &ListenOptions) -> io::Result<Bound> {
        match self.hold(address)? {
            Some((listener, held)) => {
                options.adopt(&listener)?;
                Ok(Bound { listener, held: Some(held) })
            }
            None => Ok(Bound { listener: options.listen(address)?, held: None }),
        }
    }

    /// The same for the rest of this process's life: nobody is given that socket again.
    pub fn take(&self, address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
        let mut sockets = self.lock();
        match sockets.iter().position(|socket| socket.is_free_at(address)) {
            Some(place) => {
                let listener = sockets.swap_remove(place).listener;
                options.adopt(&listener).map(|()| listener)
            }
            None => options.listen(address),
        }
    }

    fn hold(&self, address: SocketAddr) -> io::Result<Option<(TcpListener, Held)>> {
        let mut sockets = self.lock();
        let Some(socket) = sockets.iter_mut().find(|socket| socket.is_free_at(address)) else {
            return Ok(None);
        };
        let listener = socket.listener.try_clone()?;
        let held = Arc::new(());
        socket.holder = Arc::downgrade(&held);
        Ok(Some((listener, Held { _held: held })))
    }

    /// All of them, whoever listens on them.
    pub fn all(&self) -> Vec<Named> {
        self.lock().iter().map(|socket| socket.is.clone()).collect()
    }

    /// Closes them here: what somebody listens on goes with them.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Socket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket {
    fn new(name: String, listener: TcpListener) -> Result<Self, Unusable> {
        match listening_address(&listener) {
            Ok(address) => Ok(Self { is: Named { name, address }, listener, holder: Weak::new() }),
            Err(why) => Err(Unusable { name, why }),
        }
    }

    fn is_free_at(&self, address: SocketAddr) -> bool {
        self.is.address == canonical(address) && self.holder.strong_count() == 0
    }
}

/// Or what else it is.
fn listening_address(socket: &TcpListener) -> Result<SocketAddr, String> {
    let system = |error: io::Error| error.to_string();
    let protocol = sockopt::socket_protocol(socket).map_err(|error| system(error.into()))?;
    if ![Some(ipproto::TCP), Some(ipproto::MPTCP)].contains(&protocol) {
        return Err("it is not a socket of TCP".to_owned());
    }
    if !sockopt::socket_acceptconn(socket).map_err(|error| system(error.into()))? {
        return Err("it does not listen (a socket unit passes listening ones with `Accept=no`)".to_owned());
    }
    socket.local_addr().map(canonical).map_err(system)
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` at {}", self.name, self.address)
    }
}

/// The number of the first descriptor that is passed.
const FIRST: usize = 3;
/// Far more than one unit has.
const SOCKETS_MAX: u16 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    const OPTIONS: ListenOptions =
        ListenOptions { backlog: 16, ipv6_only: true, reuse_address: true, keepalive: None };

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        (listener, address)
    }

    fn given() -> (Given, SocketAddr) {
        let (listener, address) = listener();
        (Given::of([("web".to_owned(), listener)]).expect("it listens"), address)
    }

    #[test]
    fn one_at_a_time_has_a_socket_and_the_next_one_has_it_again() {
        let (given, address) = given();
        for _ in 0..2 {
            let bound = given.listen(address, &OPTIONS).expect("it is there");
            assert!(bound.held.is_some());
            let error = given.listen(address, &OPTIONS).err().expect("somebody has it");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        let elsewhere = given.listen(([127, 0, 0, 1], 0).into(), &OPTIONS).expect("a free port");
        assert!(elsewhere.held.is_none());
        assert_eq!(given.all(), [Named { name: "web".to_owned(), address }]);
        given.close();
        let anew = given.listen(address, &OPTIONS).expect("nobody listens there any more");
        assert!(anew.held.is_none());
    }

    #[test]
    fn what_is_taken_is_given_to_nobody_else() {
        let (given, address) = given();
        let taken = given.take(address, &OPTIONS).expect("it is there");
        assert_eq!(taken.local_addr().expect("it is bound"), address);
        assert!(given.listen(address, &OPTIONS).is_err() && given.all().is_empty());
    }

    /// As every connection's that a tenant accepts.
    #[test]
    fn keepalive_is_what_the_limits_say() {
        let (given, address) = given();
        let options = ListenOptions { keepalive: Some(std::time::Duration::from_secs(40)), ..OPTIONS };
        let bound = given.listen(address, &options).expect("it is there");
        assert!(sockopt::socket_keepalive(&bound.listener).expect("it is a socket"));
        assert_eq!(sockopt::tcp_keepidle(&bound.listener).expect("it is of TCP").as_secs(), 40);
    }

    #[test]
    fn what_does_not_listen_is_refused_by_its_name() {
        let (_listens, address) = listener();
        #[expect(clippy::disallowed_methods, reason = "this thread is no worker")]
        let connected = std::net::TcpStream::connect(address).expect("it listens");
        let (unix, _other) = std::os::unix::net::UnixStream::pair().expect("descriptors");
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        for (socket, why) in [
            (OwnedFd::from(connected), "it does not listen"),
            (unix.into(), "not a socket of TCP"),
            (udp.into(), "not a socket of TCP"),
        ] {
            let error = Given::of([("web".to_owned(), socket.into())]).expect_err("it does not listen");
            assert!(error.to_string().contains("`web`") && error.to_string().contains(why), "{error}");
        }
    }
}
