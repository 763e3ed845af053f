//! Runs a test under every driver, and what the tests have in common.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use conet_rt::net::{ListenOptions, TcpListener, TcpStream};
use conet_rt::{DriverKind, WorkerConfig, block_on, time};

/// Every driver; the test driver with several seeds.
pub(crate) fn drivers() -> impl Iterator<Item = DriverKind> {
    // Miri has time for one seed.
    let seeds = if cfg!(miri) { &[1][..] } else { &[1, 22, 333, 4444] };
    real_drivers().into_iter().chain(seeds.iter().copied().map(DriverKind::Test))
}

/// Those that this machine has. Miri has no io_uring.
pub(crate) fn real_drivers() -> Vec<DriverKind> {
    let mut drivers = vec![DriverKind::Epoll];
    if cfg!(miri) {
        return drivers;
    }
    match DriverKind::IoUring.check() {
        Ok(()) => drivers.push(DriverKind::IoUring),
        Err(why) => eprintln!("SKIPPED under io_uring: {why}"),
    }
    drivers
}

pub(crate) fn config(driver: DriverKind) -> WorkerConfig {
    WorkerConfig { name: "test".into(), driver, hooks: None }
}

/// Runs the test on a worker of each kind.
pub(crate) fn under_every_driver<Fut: Future<Output = ()>>(test: impl Fn() -> Fut) {
    drivers().for_each(|driver| under(driver, test()));
}

/// Runs a test on a worker, and fails if it takes minutes.
pub(crate) fn under(driver: DriverKind, test: impl Future<Output = ()>) {
    let done = block_on(config(driver), time::timeout(Duration::from_secs(120), test)).unwrap();
    assert!(done.is_ok(), "{driver:?}: the test hangs");
}

pub(crate) fn listen() -> TcpListener {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &ListenOptions::default()).unwrap()
}

/// Lets the worker look at its sockets, several times under the test driver. It does so to wait for a timer, and there is no
/// event to wait for instead: what it finds, or has done before, is what is tested.
pub(crate) async fn look() {
    time::sleep(Duration::from_millis(1)).await;
}

/// Two ends of a connection.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = listen();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, near.local_addr().unwrap());
    (near, far)
}

/// Two ends on which small messages have come and gone, so that more of them are expected.
pub(crate) async fn warm_pair() -> (TcpStream, TcpStream) {
    let (near, far) = pair().await;
    for _ in 0..3 {
        send_all(&far, b"warm").await.unwrap();
        assert_eq!(recv_exact(&near, 4).await.unwrap(), b"warm");
        send_all(&near, b"up").await.unwrap();
        assert_eq!(recv_exact(&far, 2).await.unwrap(), b"up");
    }
    (near, far)
}

/// An end on the runtime, and the other as std has it.
pub(crate) async fn std_pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().unwrap().0)
}

pub(crate) async fn send_all(stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        let end = bytes.len().min(sent + 64 * 1024);
        sent += stream.send(bytes[sent..end].to_vec()).await?;
    }
    Ok(())
}

/// Receives until the end of the stream.
pub(crate) async fn recv_all(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let chunk = stream.recv(64 * 1024).await?;
        if chunk.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&chunk);
    }
}

/// Receives this many bytes.
pub(crate) async fn recv_exact(stream: &TcpStream, len: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < len {
        let chunk = stream.recv(len - all.len()).await?;
        assert!(!chunk.is_empty(), "the stream ended after {} of {len} bytes", all.len());
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Bytes in which a loss, a repetition or a swap shows.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Polls once.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// Polls once with a waker that does nothing.
pub(crate) fn poll_unheard<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets the other tasks run until this holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        time::yield_now().await;
    }
}
