//! Out of descriptors. In a process of its own, as it changes the process's limit.

#![allow(clippy::disallowed_methods, reason = "the peers are std's, on loopback, where nothing keeps them")]

use conet_rt::net::{ListenOptions, TcpListener, TcpStream};
use conet_rt::{WorkerConfig, block_on};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn accept_reports_it_and_recovers() {
    block_on(WorkerConfig::default(), async {
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
