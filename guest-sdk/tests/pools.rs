//! The pool of the native build keeps the contract's promises.
#![cfg(not(target_family = "wasm"))]

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use conet::ErrorCode;
use conet::net::{SocketAddr, TcpListener, TcpStream};
use conet::pool::{Options, Pool};

/// A server that hands each of its connections to the test.
struct Server {
    address: SocketAddr,
    accepted: Rc<RefCell<Vec<TcpStream>>>,
}

impl Server {
    fn start() -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let accepted = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::clone(&accepted);
        conet::go(move || {
            loop {
                let (conn, _) = listener.accept()?;
                kept.borrow_mut().push(conn);
            }
            #[expect(unreachable_code, reason = "gives the closure its type")]
            io::Result::Ok(())
        })?;
        Ok(Server { address, accepted })
    }

    /// Takes the latest connection, once it has come.
    fn connection(&self) -> TcpStream {
        loop {
            if let Some(conn) = self.accepted.borrow_mut().pop() {
                return conn;
            }
            conet::yield_now();
        }
    }
}

fn options(max_open: u32) -> Options {
    Options { max_open, ..Options::default() }
}

#[test]
fn a_dropped_connection_is_used_again() {
    conet::run(|| {
        let server = Server::start()?;
        let pool = Pool::open(server.address)?;
        let first = pool.get()?.local_addr()?;
        let second = pool.get()?;
        assert_eq!(second.local_addr()?, first);
        let stats = pool.stats();
        assert_eq!((stats.opened, stats.reused, stats.open, stats.idle), (1, 1, 1, 0));
        drop(second);
        assert_eq!(pool.stats().idle, 1);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_closed_connection_is_discarded() {
    conet::run(|| {
        let server = Server::start()?;
        let pool = Pool::open(server.address)?;
        pool.get()?.close();
        let stats = pool.stats();
        assert_eq!((stats.discarded, stats.open), (1, 0));
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn one_that_was_shut_down_is_discarded() {
    conet::run(|| {
        let server = Server::start()?;
        let pool = Pool::open(server.address)?;
        for how in [Shutdown::Write, Shutdown::Read] {
            pool.get()?.shutdown(how)?;
        }
        let stats = pool.stats();
        assert_eq!((stats.opened, stats.discarded, stats.idle), (2, 2, 0));
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn one_with_unread_bytes_is_discarded_when_it_comes_back() {
    conet::run(|| {
        let server = Server::start()?;
        let pool = Pool::open(server.address)?;
        let mut conn = pool.get()?;
        server.connection().write_all(b"two")?;
        conn.read_exact(&mut [0])?;
        drop(conn);
        assert_eq!(pool.stats().discarded, 1);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn one_that_the_peer_has_closed_is_not_handed_out() {
    conet::run(|| {
        let server = Server::start()?;
        let pool = Pool::open(server.address)?;
        drop(pool.get()?);
        // Both ends of the loopback device know at once.
        server.connection().close();
        drop(pool.get()?);
        let stats = pool.stats();
        assert_eq!((stats.opened, stats.reused, stats.discarded), (2, 0, 1));
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn more_than_max_open_wait_in_line_first_come_first_served() {
    let order = conet::run(|| {
        let server = Server::start()?;
        let pool = Rc::new(Pool::open_with(server.address, options(1))?);
        let held = pool.get()?;
        let order = Rc::new(RefCell::new(Vec::new()));
        for number in 0..5 {
            let (waiting, order) = (Rc::clone(&pool), Rc::clone(&order));
            let before = pool.stats().waited;
            conet::go(move || {
                let _conn = waiting.get()?;
                order.borrow_mut().push(number);
                io::Result::Ok(())
            })?;
            while pool.stats().waited == before {
                conet::yield_now();
            }
        }
        drop(held);
        while order.borrow().len() < 5 {
            conet::yield_now();
        }
        let stats = pool.stats();
        assert_eq!((stats.opened, stats.reused, stats.waited, stats.open), (1, 5, 5, 1));
        io::Result::Ok(order.take())
    });
    assert_eq!(order.unwrap(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_wait_in_line_has_an_end() {
    conet::run(|| {
        let server = Server::start()?;
        let pool = Pool::open_with(server.address, options(1))?;
        let held = pool.get()?;
        let error = pool.get_timeout(Duration::from_millis(10)).unwrap_err();
        assert_eq!(ErrorCode::of(&error), Some(ErrorCode::TimedOut));
        drop(held);
        pool.get_timeout(Duration::from_secs(10))?;
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_timeout_that_the_clock_cannot_reach_is_none() {
    conet::run(|| {
        let server = Server::start()?;
        let pool = Pool::open(server.address)?;
        drop(pool.get_timeout(Duration::MAX)?);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_failed_connect_gives_its_place_back() {
    conet::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        drop(listener);
        let pool = Pool::open_with(address, options(1))?;
        for _ in 0..3 {
            assert_eq!(ErrorCode::of(&pool.get().unwrap_err()), Some(ErrorCode::ConnectionRefused));
        }
        assert_eq!(pool.stats().open, 0);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn idle_connections_have_a_maximum_and_an_age() {
    conet::run(|| {
        let server = Server::start()?;
        let few = Pool::open_with(server.address, Options { max_idle: 1, ..options(3) })?;
        let three = [few.get()?, few.get()?, few.get()?];
        drop(three);
        let stats = few.stats();
        assert_eq!((stats.idle, stats.open, stats.discarded), (1, 1, 2));

        let idle_age = Duration::ZERO;
        let short = Pool::open_with(server.address, Options { idle_age, ..options(1) })?;
        drop(short.get()?);
        assert_eq!(short.stats().discarded, 1);

        let max_age = Some(Duration::ZERO);
        let young = Pool::open_with(server.address, Options { max_age, ..options(1) })?;
        drop(young.get()?);
        assert_eq!(young.stats().discarded, 1);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn the_same_target_and_options_are_the_same_pool() {
    conet::run(|| {
        let server = Server::start()?;
        let (one, same) = (Pool::open(server.address)?, Pool::open(server.address)?);
        let other = Pool::open_with(server.address, options(1))?;
        drop(one.get()?);
        assert_eq!(same.stats(), one.stats());
        assert_eq!(other.stats().opened, 0);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_target_that_nothing_can_be_is_refused() {
    for target in ["no such name:1", "127.0.0.1:0"] {
        let error = conet::run(move || Pool::open(target).map(drop).unwrap_err());
        assert_eq!(ErrorCode::of(&error), Some(ErrorCode::InvalidArgument), "{target}");
    }
}

#[test]
fn options_that_allow_nothing_are_refused() {
    let error = conet::run(|| Pool::open_with("127.0.0.1:1", options(0)).map(drop).unwrap_err());
    assert_eq!(ErrorCode::of(&error), Some(ErrorCode::InvalidArgument));
}
