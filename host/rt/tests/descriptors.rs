//! Out of descriptors. In a process of its own, as it changes the process's limit.

#![allow(clippy::disallowed_methods, reason = "the peers are std's, on loopback, where nothing keeps them")]

#[path = "rt/drivers.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod drivers;

use conet_rt::net::{ListenOptions, TcpListener, TcpStream};
use conet_rt::{DriverKind, block_on};
use drivers::{config, real_drivers};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One process-wide limit needs one test at a time.
#[test]
fn accept_reports_it_and_recovers() {
    real_drivers().into_iter().for_each(run_out);
}

fn run_out(driver: DriverKind) {
    block_on(config(driver), async {
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = TcpListener::bind(any, &ListenOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        // From here on there is not one descriptor more.
        let next = std::fs::File::open("/dev/null").unwrap();
        let limit = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&next)).unwrap();
        drop(next);
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..before }).unwrap();
        for _ in 0..3 {
            let error = listener.accept().await.unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(Errno::MFILE));
        }
        let error = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::MFILE));
        setrlimit(Resource::Nofile, before).unwrap();
        assert_eq!(listener.accept().await.unwrap().1, client.local_addr().unwrap());
    })
    .unwrap();
}
