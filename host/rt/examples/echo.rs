//! A native echo server: `echo [--workers N] [--driver auto|epoll|io-uring] [ADDRESS]`, by default one worker on
//! 127.0.0.1:7000.

use std::io;
use std::net::SocketAddr;

use conet_rt::net::{ListenOptions, TcpListener, TcpStream};
use conet_rt::{DriverKind, Worker, WorkerConfig, spawn, time};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() -> io::Result<()> {
    let Arguments { workers, driver, address } = arguments()?;
    raise_open_files()?;
    let driver = driver.unwrap_or_else(|| {
        let (driver, why_not) = DriverKind::IoUring.or_epoll();
        why_not.inspect(|why| eprintln!("on epoll: {why}"));
        driver
    });
    // Each worker gets a duplicate.
    let listener = ListenOptions::default().listen(address)?;
    eprintln!("listening on {}", listener.local_addr()?);
    let started = (0..workers).map(|number| {
        let name = format!("worker-{number}");
        let worker = Worker::start(WorkerConfig { name, driver, ..WorkerConfig::default() })?;
        let listener = listener.try_clone()?;
        worker.handle().spawn(move || serve(listener)).map_err(io::Error::other)?;
        Ok(worker)
    });
    for worker in started.collect::<io::Result<Vec<Worker>>>()? {
        worker.join().map_err(|_| io::Error::other("a worker died"))?;
    }
    Ok(())
}

/// To as many as the system lets this process have.
fn raise_open_files() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

async fn serve(listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("a listening socket");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => spawn(echo(stream)).detach(),
            Err(error) => {
                eprintln!("accept: {error}");
                // Out of descriptors, perhaps: that does not go away at once.
                time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Until the peer has sent all, or is gone.
async fn echo(stream: TcpStream) {
    while let Ok(chunk) = stream.recv(4 * 1024).await {
        if chunk.is_empty() || send(&stream, &chunk).await.is_err() {
            return;
        }
    }
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let taken = match stream.try_send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.send(bytes.to_vec()).await?,
            taken => taken?,
        };
        bytes = &bytes[taken..];
    }
    Ok(())
}

struct Arguments {
    workers: usize,
    /// None for the best there is.
    driver: Option<DriverKind>,
    address: SocketAddr,
}

fn arguments() -> io::Result<Arguments> {
    let usage = || {
        let usage = "usage: echo [--workers N] [--driver auto|epoll|io-uring] [ADDRESS]";
        io::Error::new(io::ErrorKind::InvalidInput, usage)
    };
    let address = SocketAddr::from(([127, 0, 0, 1], 7000));
    let mut given = Arguments { workers: 1, driver: None, address };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--workers" => {
                let number = arguments.next().ok_or_else(usage)?;
                given.workers = number.parse().map_err(|_| usage())?;
            }
            "--driver" => {
                given.driver = match arguments.next().as_deref() {
                    Some("auto") => None,
                    Some("epoll") => Some(DriverKind::Epoll),
                    Some("io-uring") => Some(DriverKind::IoUring),
                    _ => return Err(usage()),
                }
            }
            text => given.address = text.parse().map_err(|_| usage())?,
        }
    }
    Ok(given)
}
