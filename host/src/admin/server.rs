//! Accepting the admin's connections: few at once, each for one request and not for long.

use std::{
    convert::Infallible,
    io,
    net::TcpListener as StdTcpListener,
    os::{fd::AsFd, unix::net::UnixListener as StdUnixListener},
    sync::{Arc, OnceLock},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tracing::debug;

use super::{
    Observed,
    routes::{Door, answer},
};

/// Where connections come from.
pub(super) struct Listeners {
    unix: Option<UnixListener>,
    address: Option<TcpListener>,
    probes: Option<TcpListener>,
}

impl Listeners {
    /// Takes those there are into the runtime that is entered.
    pub(super) fn new(
        unix: Option<StdUnixListener>,
        address: Option<StdTcpListener>,
        probes: Option<StdTcpListener>,
    ) -> io::Result<Self> {
        let taken = |listener: StdTcpListener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        Ok(Self {
            unix: unix.map(UnixListener::from_std).transpose()?,
            address: address.map(taken).transpose()?,
            probes: probes.map(taken).transpose()?,
        })
    }

    /// Serves them until it is dropped; the addresses only until it is told to leave them, to another process that has them, too.
    pub(super) async fn serve(&self, observed: &Arc<dyn Observed>, answering: &Answering, leave: &Notify) {
        let unix = async {
            let Some(listener) = &self.unix else { return };
            let accept = async || listener.accept().await.map(|(stream, _)| stream);
            serve(accept, Door::Unix, observed, answering).await
        };
        let at_address = async |listener: &Option<TcpListener>, door| {
            let Some(listener) = listener else { return };
            let accept = async || listener.accept().await.map(|(stream, _)| stream);
            serve(accept, door, observed, answering).await
        };
        let both = async {
            tokio::join!(at_address(&self.address, Door::Address), at_address(&self.probes, Door::Probes))
        };
        let addresses = async {
            tokio::select! {
                _ = both => {}
                () = leave.notified() => {}
            }
        };
        tokio::join!(unix, addresses);
    }

    /// Serves who waits at the socket now: nobody will accept them later.
    pub(super) fn serve_last(&self, observed: &Arc<dyn Observed>, answering: &Answering) -> io::Result<()> {
        let Some(listener) = &self.unix else { return Ok(()) };
        let listener = StdUnixListener::from(listener.as_fd().try_clone_to_owned()?);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Ok(place) = places.clone().try_acquire_owned() {
            // It does not wait: this is the same socket.
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            let stream = UnixStream::from_std(stream)?;
            drop(tokio::spawn(connection(stream, Door::Unix, observed.clone(), answering.clone(), place)));
        }
        Ok(())
    }
}

/// Requests that have come and whose answers have not left yet.
#[derive(Clone)]
pub(super) struct Answering(Arc<watch::Sender<usize>>);

/// One of them.
struct Request(Answering);

impl Answering {
    /// None so far.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Waits until there are none.
    pub(super) async fn done(&self) {
        // The sender is ours.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }

    fn begin(&self) -> Request {
        self.0.send_modify(|count| *count += 1);
        Request(self.clone())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

async fn serve<S>(
    accept: impl AsyncFn() -> io::Result<S>,
    door: Door,
    observed: &Arc<dyn Observed>,
    answering: &Answering,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Permit first: those beyond it wait in the backlog, until others have had their time.
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        match accept().await {
            Ok(stream) => {
                let (observed, answering) = (observed.clone(), answering.clone());
                drop(tokio::spawn(connection(stream, door, observed, answering, place)));
            }
            Err(error) => {
                debug!("the admin cannot accept: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn connection<S>(
    stream: S,
    door: Door,
    observed: Arc<dyn Observed>,
    answering: Answering,
    _place: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // From the request's head until all is sent; of this user, who asks at once, from the beginning.
    let under_way = OnceLock::new();
    if door == Door::Unix {
        under_way.get_or_init(|| answering.begin());
    }
    let answer = |request| {
        under_way.get_or_init(|| answering.begin());
        let observed = observed.clone();
        async move { Ok::<_, Infallible>(answer(&request, door, &*observed).await) }
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        // No place is kept for a request that may come.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    let time_max = if door == Door::Unix { OF_THIS_USER_MAX } else { CONNECTION_MAX };
    match timeout(time_max, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("a connection to the admin: {error}"),
        Err(_) => debug!("a connection to the admin took too long"),
    }
}

/// Connections at once, of each listener.
const CONNECTIONS_MAX: usize = 32;
/// From accepting to the end of a request's head.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// Bytes of a request's head; a body is not read at all.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A connection from its beginning to its end.
const CONNECTION_MAX: Duration = Duration::from_secs(120);
/// Where commands come from: a reload compiles, and the next version compiles everything.
const OF_THIS_USER_MAX: Duration = Duration::from_secs(15 * 60);
/// Before another attempt to accept.
const PAUSE: Duration = Duration::from_millis(100);
