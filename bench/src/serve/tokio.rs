//! What a Rust programmer would write today: tokio, a task for each connection.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;

use super::{BACKLOG, BUFFER_BYTES, DISCARD_BYTES, Service};

/// Which of tokio's runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// All on the thread that runs it.
    CurrentThread,
    /// A worker for each core that the process may use.
    MultiThread,
}

impl Flavor {
    pub(crate) fn builder(self) -> runtime::Builder {
        match self {
            Self::CurrentThread => runtime::Builder::new_current_thread(),
            Self::MultiThread => runtime::Builder::new_multi_thread(),
        }
    }
}

/// Serves on `address`, telling `bound` the real one once connections are accepted.
pub fn run(
    address: SocketAddr,
    flavor: Flavor,
    service: Service,
    bound: impl FnOnce(SocketAddr) + Send + 'static,
) -> Result<()> {
    let runtime = flavor.builder().enable_io().build()?;
    // A task, so that with workers one of them accepts.
    runtime.block_on(runtime.spawn(serve(address, service, bound)))?
}

async fn serve(address: SocketAddr, service: Service, bound: impl FnOnce(SocketAddr)) -> Result<()> {
    // Bound by hand only for the backlog, which is the same for all baselines.
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address).with_context(|| format!("cannot listen on {address}"))?;
    listen(&socket, BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    bound(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        stream.set_nodelay(true)?;
        match service {
            Service::Echo => tokio::spawn(echo(stream)),
            Service::Discard => tokio::spawn(discard(stream)),
        };
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..received]).await?;
    }
}

async fn discard(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; DISCARD_BYTES];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
