//! Accepting the admin's connections: few at once, each for one request and not for long.

use std::{
    convert::Infallible, io, net::TcpListener as StdTcpListener,
    os::unix::net::UnixListener as StdUnixListener, sync::Arc, time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
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

    /// Serves them until it is dropped.
    pub(super) async fn serve(self, observed: Arc<dyn Observed>) {
        let unix = async {
            let Some(listener) = &self.unix else { return };
            let accept = async || listener.accept().await.map(|(stream, _)| stream);
            serve(accept, Door::Unix, &observed).await
        };
        let at_address = async |listener: &Option<TcpListener>, door| {
            let Some(listener) = listener else { return };
            let accept = async || listener.accept().await.map(|(stream, _)| stream);
            serve(accept, door, &observed).await
        };
        let (address, probes) =
            (at_address(&self.address, Door::Address), at_address(&self.probes, Door::Probes));
        tokio::join!(unix, address, probes);
    }
}

async fn serve<S>(accept: impl AsyncFn() -> io::Result<S>, door: Door, observed: &Arc<dyn Observed>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Permit first: those beyond it wait in the backlog, until others have had their time.
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        match accept().await {
            Ok(stream) => drop(tokio::spawn(connection(stream, door, observed.clone(), place))),
            Err(error) => {
                debug!("the admin cannot accept: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn connection<S>(stream: S, door: Door, observed: Arc<dyn Observed>, _place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = |request| {
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
    match timeout(CONNECTION_MAX, served).await {
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
/// A connection from its beginning to its end: a reload compiles.
const CONNECTION_MAX: Duration = Duration::from_secs(120);
/// Before another attempt to accept.
const PAUSE: Duration = Duration::from_millis(100);
