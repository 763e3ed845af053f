//! Pools of real connections to listeners of the test's own.

#![expect(clippy::disallowed_methods, reason = "the peers are std's, on loopback, where nothing keeps them")]

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{TcpListener, TcpStream as StdStream},
    rc::Rc,
    sync::mpsc,
};

use conet_rt::{Worker, WorkerConfig};
use rustix::event::{PollFd, PollFlags, poll};

use super::*;
use crate::{config::limits::Limits, quota::Quota};

/// A server whose side of each connection the test holds, and the client's permits.
pub(super) struct Server {
    listener: TcpListener,
    pub(super) quota: Arc<Quota>,
}

impl Server {
    pub(super) fn new() -> Server {
        Server { listener: TcpListener::bind("127.0.0.1:0").unwrap(), quota: Quota::new(100) }
    }

    /// Connects on the current worker.
    fn connect(&self) -> Result<(TcpStream, Permit), &'static str> {
        let stream = StdStream::connect(self.listener.local_addr().unwrap()).unwrap();
        Ok((TcpStream::from_fd(stream.into()).unwrap(), self.quota.try_acquire(1).ok_or("no permit")?))
    }

    pub(super) fn accept(&self) -> StdStream {
        self.listener.accept().unwrap().0
    }
}

pub(super) fn on_worker<F: Future>(test: F) -> F::Output {
    conet_rt::block_on(WorkerConfig::default(), test).unwrap()
}

pub(super) fn limits() -> Limits {
    Limits::default()
}

fn pool(change: impl FnOnce(&mut Limits)) -> Pool {
    let mut limits = limits();
    change(&mut limits);
    Pools::new(&limits, false).open(Target::Name("test".into(), 1), None).unwrap()
}

fn soon() -> Option<Instant> {
    Some(time::after(Duration::from_secs(60)))
}

pub(super) async fn get(pool: &Pool, server: &Server) -> Pooled {
    let got = pool.get(soon(), || async { server.connect() }).await;
    got.unwrap_or_else(|error| panic!("{error:?}"))
}

fn discarded(pool: &Pool) -> Vec<(&'static str, u64)> {
    let counts = pool.stats().discarded;
    Discard::ALL.iter().map(|(why, name)| (*name, counts[*why as usize])).filter(|(_, n)| *n > 0).collect()
}

#[test]
fn pooled_connections_are_sent_between_threads() {
    fn is_send<T: Send + 'static>(_: &T) {}
    is_send(&pool(|_| {}));
    fn pooled_is_send(pooled: Pooled) {
        is_send(&pooled);
    }
    let _: fn(Pooled) = pooled_is_send;
    let pool = pool(|_| {});
    // Never run: that it compiles is the test.
    is_send(&async move { pool.get::<(), _>(None, || async { Err(()) }).await.is_ok() });
}

#[test]
fn a_returned_connection_is_used_again() {
    on_worker(async {
        let (server, pool) = (Server::new(), pool(|_| {}));
        let first = get(&pool, &server).await;
        let mut peer = server.accept();
        let name = first.stream().local_addr().unwrap();
        drop(first);
        assert_eq!((pool.stats().open, pool.stats().idle), (1, 1));
        let second = get(&pool, &server).await;
        assert_eq!(second.stream().local_addr().unwrap(), name);
        assert_eq!(second.stream().send(b"x".to_vec()).await.unwrap(), 1);
        conet_rt::flush();
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        let stats = pool.stats();
        assert_eq!(
            (stats.opened, stats.reused, stats.discarded_total(), stats.open, stats.idle),
            (1, 1, 0, 1, 0)
        );
        assert_eq!(server.quota.used(), 1);
    });
}

#[test]
fn a_discarded_connection_is_closed_and_its_permit_returned() {
    on_worker(async {
        let (server, pool) = (Server::new(), pool(|_| {}));
        get(&pool, &server).await.discard();
        assert_eq!(server.accept().read(&mut [0]).unwrap(), 0);
        get(&pool, &server).await.reset();
        let mut peer = server.accept();
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(discarded(&pool), [("closed", 2)]);
        assert_eq!((pool.stats().open, server.quota.used()), (0, 0));
    });
}

/// One connection for ten coroutines: they take turns in the order they came.
#[test]
fn waiters_are_served_in_order() {
    on_worker(async {
        let (server, pool) = (Rc::new(Server::new()), pool(|limits| limits.pool.open_max = 1));
        let held = get(&pool, &server).await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..10)
            .map(|i| {
                let (server, pool, order) = (server.clone(), pool.clone(), order.clone());
                conet_rt::spawn(async move {
                    let pooled = get(&pool, &server).await;
                    order.borrow_mut().push(i);
                    time::yield_now().await;
                    match i % 2 {
                        0 => drop(pooled),
                        _ => pooled.discard(),
                    }
                })
            })
            .collect();
        while pool.stats().waited < 10 {
            time::yield_now().await;
        }
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), (0..10).collect::<Vec<_>>());
        let stats = pool.stats();
        assert_eq!((stats.opened, stats.reused, stats.open), (5, 6, 0));
    });
}

#[test]
fn a_deadline_ends_waiting_and_nothing_is_lost() {
    on_worker(async {
        let (server, pool) = (Server::new(), pool(|limits| limits.pool.open_max = 1));
        let held = get(&pool, &server).await;
        let past = Some(Instant::now());
        let refused = pool.get(past, || async { server.connect() }).await.err();
        assert_eq!(refused, Some(GetError::TimedOut));
        drop(held);
        drop(get(&pool, &server).await);
        assert_eq!((pool.stats().opened, pool.stats().open), (1, 1));
    });
}

/// A failed, a late and a cancelled connect each give the place to the next in line.
#[test]
fn a_connect_that_comes_to_nothing_frees_its_place() {
    on_worker(async {
        let (server, pool) = (Server::new(), pool(|limits| limits.pool.open_max = 1));
        let failed = pool.get(soon(), || async { Err("refused") }).await.err();
        assert_eq!(failed, Some(GetError::Connect("refused")));

        let soon_over = Some(time::after(Duration::from_millis(1)));
        let late = pool.get::<(), _>(soon_over, std::future::pending).await.err();
        assert_eq!(late, Some(GetError::TimedOut));

        let connecting = {
            let pool = pool.clone();
            conet_rt::spawn(async move { pool.get::<(), _>(None, std::future::pending).await.is_ok() })
        };
        while pool.stats().open == 0 {
            time::yield_now().await;
        }
        drop(connecting);
        drop(get(&pool, &server).await);
        assert_eq!((pool.stats().opened, pool.stats().open, pool.stats().idle), (1, 1, 1));
    });
}

#[test]
fn a_connection_with_unread_bytes_or_a_closed_peer_is_not_kept() {
    on_worker(async {
        let (server, pool) = (Server::new(), pool(|_| {}));
        let unread = get(&pool, &server).await;
        server.accept().write_all(b"ab").unwrap();
        assert_eq!(&*unread.stream().recv(1).await.unwrap(), b"a");
        drop(unread);
        let ended = get(&pool, &server).await;
        drop(server.accept());
        assert!(ended.stream().recv(1).await.unwrap().is_empty());
        drop(ended);
        assert_eq!(discarded(&pool), [("unhealthy-at-put", 2)]);
        assert_eq!((pool.stats().open, server.quota.used()), (0, 0));
    });
}

/// Of three idle ones two die, the latest first in turn: the third goes out, without a new connection.
#[test]
fn dead_idle_connections_are_passed_over() {
    on_worker(async {
        let (server, pool) = (Server::new(), pool(|_| {}));
        let mut peers = Vec::new();
        let mut lent = Vec::new();
        let mut watched = Vec::new();
        for _ in 0..3 {
            let stream = StdStream::connect(server.listener.local_addr().unwrap()).unwrap();
            watched.push(stream.try_clone().unwrap());
            peers.push(server.accept());
            let permit = server.quota.try_acquire(1).unwrap();
            let connect = || async { Ok::<_, ()>((TcpStream::from_fd(stream.into()).unwrap(), permit)) };
            lent.push(pool.get(None, connect).await.unwrap());
        }
        let survivor = lent[0].stream().local_addr().unwrap();
        lent.into_iter().for_each(drop);
        assert_eq!(pool.stats().idle, 3);
        peers[1].write_all(b"unasked").unwrap();
        drop(peers.pop());
        for socket in &watched[1..] {
            poll(&mut [PollFd::new(socket, PollFlags::IN)], None).unwrap();
        }
        let pooled = get(&pool, &server).await;
        assert_eq!(pooled.stream().local_addr().unwrap(), survivor);
        assert_eq!(discarded(&pool), [("unhealthy-at-get", 2)]);
        assert_eq!((pool.stats().open, pool.stats().opened, server.quota.used()), (1, 3, 1));
    });
}

#[test]
fn idle_connections_are_closed_in_time_without_being_touched() {
    on_worker(async {
        let server = Server::new();
        let pool = pool(|limits| limits.pool.idle_age_max = Duration::from_millis(1));
        drop(get(&pool, &server).await);
        let peer = conet_rt::net::TcpStream::from_fd(server.accept().into()).unwrap();
        assert!(time::timeout_at(soon(), peer.recv(1)).await.unwrap().unwrap().is_empty());
        assert_eq!(discarded(&pool), [("idle-age", 1)]);
        assert_eq!((pool.stats().open, server.quota.used()), (0, 0));
        // Another sweeper serves the next.
        drop(get(&pool, &server).await);
        let peer = conet_rt::net::TcpStream::from_fd(server.accept().into()).unwrap();
        assert!(time::timeout_at(soon(), peer.recv(1)).await.unwrap().unwrap().is_empty());
    });
}

/// An answer may still be on its way, which the next one would take for its own.
#[test]
fn a_connection_on_which_a_call_has_failed_is_not_kept() {
    on_worker(async {
        let (server, pool) = (Server::new(), pool(|_| {}));
        let mut pooled = get(&pool, &server).await;
        let _peer = server.accept();
        pooled.spoil();
        drop(pooled);
        assert_eq!(discarded(&pool), [("spoiled", 1)]);
        assert_eq!((pool.stats().open, server.quota.used()), (0, 0));
    });
}

#[test]
fn the_next_one_finds_nodelay_on() {
    on_worker(async {
        let (server, pool) = (Server::new(), pool(|_| {}));
        let mut pooled = get(&pool, &server).await;
        let _peer = server.accept();
        pooled.stream().set_nodelay(false).unwrap();
        pooled.set_delayed(true);
        drop(pooled);
        let pooled = get(&pool, &server).await;
        assert!(pooled.stream().nodelay().unwrap());
        assert_eq!(pool.stats().reused, 1);
    });
}

#[test]
fn too_old_and_too_many_are_not_kept() {
    on_worker(async {
        let server = Server::new();
        let old = pool(|limits| limits.pool.age_max = Duration::from_nanos(1));
        drop(get(&old, &server).await);
        assert_eq!(discarded(&old), [("age", 1)]);
        let few = pool(|limits| limits.pool.idle_max = 1);
        let (one, two) = (get(&few, &server).await, get(&few, &server).await);
        drop((one, two));
        assert_eq!(discarded(&few), [("idle-max", 1)]);
        assert_eq!((few.stats().open, few.stats().idle, server.quota.used()), (1, 1, 1));
    });
}

#[test]
fn a_connection_goes_from_worker_to_worker() {
    let server = Arc::new(Server::new());
    let pool = pool(|limits| limits.pool.open_max = 1);
    let (done, names) = mpsc::channel();
    let workers = [(); 3].map(|()| Worker::start(WorkerConfig::default()).unwrap());
    for round in 0..30 {
        let (server, pool, done) = (server.clone(), pool.clone(), done.clone());
        workers[round % 3]
            .handle()
            .spawn(move || async move {
                let pooled = get(&pool, &server).await;
                let name = pooled.stream().local_addr().unwrap();
                time::yield_now().await;
                drop(pooled);
                done.send(name).unwrap();
            })
            .unwrap();
    }
    drop(done);
    let names: Vec<_> = names.iter().collect();
    assert_eq!(names.len(), 30);
    assert!(names.iter().all(|name| *name == names[0]));
    assert_eq!((pool.stats().opened, pool.stats().reused, pool.stats().discarded_total()), (1, 29, 0));
    for worker in workers {
        worker.stop();
        worker.join().unwrap();
    }
}

#[test]
fn a_connection_dropped_elsewhere_is_closed() {
    let server = Server::new();
    let pool = pool(|_| {});
    let pooled = on_worker(get(&pool, &server));
    drop(pooled);
    assert_eq!(server.accept().read(&mut [0]).unwrap(), 0);
    assert_eq!(discarded(&pool), [("abandoned", 1)]);
    assert_eq!((pool.stats().open, server.quota.used()), (0, 0));
}
