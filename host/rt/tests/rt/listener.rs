//! Accepting: alone, shared by workers, cancelled.

use std::cell::Cell;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use conet_rt::net::{ListenOptions, TcpListener, TcpStream};
use conet_rt::{DriverKind, Hooks, Worker, WorkerConfig, error, spawn, time};

use crate::drivers::*;

/// Each serves all while the others are kept busy.
#[test]
fn workers_share_a_listener() {
    for driver in drivers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (workers, served): (Vec<Worker>, Vec<_>) = (0..3)
            .map(|_| {
                let served = Arc::new(AtomicUsize::new(0));
                let (own, count) = (listener.try_clone().unwrap(), served.clone());
                let worker = Worker::start(config(driver)).unwrap();
                worker.handle().spawn(move || greet(own, count)).unwrap();
                (worker, served)
            })
            .unzip();
        for (serving, served) in served.iter().enumerate() {
            let others = workers.iter().enumerate().filter(|(number, _)| *number != serving);
            let busy: Vec<_> = others.map(|(_, worker)| keep_busy(worker)).collect();
            (0..50).for_each(|_| expect_greeting(&listener));
            assert_eq!(served.load(Ordering::Relaxed), 50);
            drop(busy);
        }
        workers.iter().for_each(Worker::stop);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }
}

/// Of those asleep the kernel tells the one that waits longest: who has accepted is to wait behind the others, or it would get
/// every connection of a server that has little to do.
#[test]
fn workers_asleep_take_turns() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let awake = Arc::new(AtomicUsize::new(0));
    let (workers, served): (Vec<Worker>, Vec<_>) = (0..3)
        .map(|_| {
            let (own, served) = (listener.try_clone().unwrap(), Arc::new(AtomicUsize::new(0)));
            awake.fetch_add(1, Ordering::SeqCst);
            let hooks = Some(Box::new(Awake(awake.clone())) as _);
            let worker = Worker::start(WorkerConfig { hooks, ..config(DriverKind::Epoll) }).unwrap();
            let count = served.clone();
            worker.handle().spawn(move || greet(own, count)).unwrap();
            (worker, served)
        })
        .unzip();
    for _ in 0..60 {
        while awake.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
        expect_greeting(&listener);
    }
    let served: Vec<_> = served.iter().map(|served| served.load(Ordering::Relaxed)).collect();
    assert!(served.iter().all(|&served| served >= 10), "{served:?}");
    workers.iter().for_each(Worker::stop);
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

/// Counts workers that are not asleep.
struct Awake(Arc<AtomicUsize>);

impl Hooks for Awake {
    fn before_wait(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn after_wait(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// From now until what it gives is dropped.
fn keep_busy(worker: &Worker) -> mpsc::Sender<()> {
    let (begun, beginning) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let task = move || async move {
        begun.send(()).unwrap();
        let _ = released.recv();
    };
    worker.handle().spawn(task).unwrap();
    beginning.recv().unwrap();
    release
}

/// Of the workers asleep the kernel tells one; here some of them have stopped accepting, each after a while.
#[test]
fn a_worker_that_stops_accepting_strands_no_connection() {
    for driver in drivers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let served = Arc::new(AtomicUsize::new(0));
        let mut workers = Vec::new();
        for quota in [1, 3, 7, usize::MAX] {
            let (own, served) = (listener.try_clone().unwrap(), served.clone());
            let worker = Worker::start(config(driver)).unwrap();
            worker.handle().spawn(move || greet_some(own, served, quota)).unwrap();
            workers.push(worker);
        }
        for _ in 0..100 {
            expect_greeting(&listener);
        }
        workers.iter().for_each(Worker::stop);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }
}

/// The first of the workers asleep is told, but gives up instead of accepting: another must be told.
///
/// Not under the test driver, which accepts by itself and keeps the connection for this worker's next accept.
#[test]
fn a_worker_that_gives_up_when_told_strands_no_connection() {
    real_drivers().into_iter().for_each(one_gives_up_when_told);
}

fn one_gives_up_when_told(driver: DriverKind) {
    for _ in 0..20 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let start = |gives_up: bool| {
            let (asleep, sleeps) = mpsc::channel();
            let waiting = Arc::new(AtomicBool::new(false));
            let hooks = Some(Box::new(Asleep { asleep, waiting: waiting.clone() }) as Box<dyn Hooks + Send>);
            let worker = Worker::start(WorkerConfig { hooks, ..config(driver) }).unwrap();
            let own = listener.try_clone().unwrap();
            worker.handle().spawn(move || greet_unless(gives_up, own, waiting)).unwrap();
            sleeps.recv().unwrap();
            worker
        };
        let workers = [start(true), start(false)];
        expect_greeting(&listener);
        workers.iter().for_each(Worker::stop);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }
}

/// Tells when the worker sleeps with an accept waiting.
struct Asleep {
    asleep: mpsc::Sender<()>,
    waiting: Arc<AtomicBool>,
}

impl Hooks for Asleep {
    fn before_wait(&mut self) {
        if self.waiting.load(Ordering::Relaxed) {
            let _ = self.asleep.send(());
        }
    }
}

async fn greet_unless(gives_up: bool, listener: std::net::TcpListener, waiting: Arc<AtomicBool>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut accept = listener.accept();
    assert!(poll_once(&mut accept).await.is_pending());
    waiting.store(true, Ordering::Relaxed);
    if gives_up {
        // Pending once more, whoever wakes it; then it is dropped.
        let mut woken = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut woken, true) {
                return Poll::Ready(());
            }
            let _ = Pin::new(&mut accept).poll(cx);
            Poll::Pending
        })
        .await;
        drop(accept);
        return std::future::pending().await;
    }
    let (stream, _) = accept.await.unwrap();
    send_all(&stream, GREETING).await.unwrap();
}

/// The same, with accepts that give up all the time.
#[test]
fn impatient_workers_strand_no_connection() {
    for driver in drivers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let workers: Vec<Worker> = (1..4)
            .map(|patience| {
                let own = listener.try_clone().unwrap();
                let worker = Worker::start(config(driver)).unwrap();
                worker.handle().spawn(move || greet_impatiently(own, patience)).unwrap();
                worker
            })
            .collect();
        for _ in 0..100 {
            expect_greeting(&listener);
        }
        workers.iter().for_each(Worker::stop);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }
}

/// A worker ends with connections told to it alone.
#[test]
fn a_worker_that_ends_strands_no_connection() {
    for driver in drivers() {
        for _ in 0..30 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let served = Arc::new(AtomicUsize::new(0));
            let start = || {
                let (own, served) = (listener.try_clone().unwrap(), served.clone());
                let worker = Worker::start(config(driver)).unwrap();
                worker.handle().spawn(move || greet(own, served)).unwrap();
                worker
            };
            let (ending, staying) = (start(), start());
            expect_greeting(&listener);
            let address = listener.local_addr().unwrap();
            let mut clients: Vec<_> =
                (0..4).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            ending.stop();
            clients.extend((0..4).map(|_| std::net::TcpStream::connect(address).unwrap()));
            for mut client in clients {
                client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                // A connection that the ending worker had accepted may end without a greeting; none may hang.
                let mut greeting = Vec::new();
                match client.read_to_end(&mut greeting) {
                    Ok(_) => assert!(greeting.is_empty() || greeting == GREETING),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                }
            }
            staying.stop();
            for worker in [ending, staying] {
                worker.join().unwrap();
            }
        }
    }
}

#[test]
fn a_cancelled_accept_loses_no_connection() {
    under_every_driver(|| async {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        for _ in 0..50 {
            let mut given_up = listener.accept();
            assert!(poll_once(&mut given_up).await.is_pending());
            let client = std::net::TcpStream::connect(address).unwrap();
            time::yield_now().await;
            drop(given_up);
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }
    });
}

#[test]
fn a_crowd_is_accepted_in_portions() {
    under_every_driver(|| async {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let crowd: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let accepted = Rc::new(Cell::new(0));
        let count = accepted.clone();
        let accepting = spawn(async move {
            let mut streams = Vec::new();
            while count.get() < 100 {
                streams.push(listener.accept().await.unwrap());
                count.set(count.get() + 1);
            }
        });
        let mut before = 0;
        while before < crowd.len() {
            time::yield_now().await;
            assert!(accepted.get() - before <= 16, "{} at once", accepted.get() - before);
            before = accepted.get();
        }
        accepting.await.unwrap();
    });
}

#[test]
fn a_second_accept_is_busy() {
    under_every_driver(|| async {
        let listener = listen();
        let mut first = listener.accept();
        assert!(poll_once(&mut first).await.is_pending());
        assert!(error::is_busy(&listener.accept().await.unwrap_err()));
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        first.await.unwrap();
    });
}

#[test]
fn close_ends_an_accept() {
    under_every_driver(|| async {
        let listener = Rc::new(listen());
        let closer = listener.clone();
        let waiting = spawn(async move { listener.accept().await.unwrap_err() });
        time::yield_now().await;
        closer.close();
        assert!(error::is_closed(&waiting.await.unwrap()));
        assert!(error::is_closed(&closer.accept().await.unwrap_err()));
    });
}

#[test]
fn an_address_in_use_is_an_error() {
    under_every_driver(|| async {
        let listener = listen();
        let again = TcpListener::bind(listener.local_addr().unwrap(), &ListenOptions::default());
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn ipv6_works_where_there_is_ipv6() {
    under_every_driver(|| async {
        let any: SocketAddr = "[::1]:0".parse().unwrap();
        if std::net::TcpListener::bind(any).is_err() {
            return;
        }
        let listener = TcpListener::bind(any, &ListenOptions::default()).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, near.local_addr().unwrap());
        send_all(&near, b"six").await.unwrap();
        assert_eq!(recv_exact(&far, 3).await.unwrap(), b"six");
    });
}

async fn greet(listener: std::net::TcpListener, served: Arc<AtomicUsize>) {
    greet_some(listener, served, usize::MAX).await;
}

/// Serves this many, then does nothing more, the listener still open.
async fn greet_some(listener: std::net::TcpListener, served: Arc<AtomicUsize>, quota: usize) {
    let listener = TcpListener::from_std(listener).unwrap();
    for _ in 0..quota {
        let (stream, _) = listener.accept().await.unwrap();
        served.fetch_add(1, Ordering::Relaxed);
        send_all(&stream, GREETING).await.unwrap();
    }
    std::future::pending().await
}

/// Accepts for a while, then for a while does not: the time in which others must take what comes is the point.
async fn greet_impatiently(listener: std::net::TcpListener, patience: u64) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        match time::timeout(Duration::from_millis(patience), listener.accept()).await {
            Ok(accepted) => send_all(&accepted.unwrap().0, GREETING).await.unwrap(),
            Err(_) => time::sleep(Duration::from_millis(2 * patience)).await,
        }
    }
}

fn expect_greeting(listener: &std::net::TcpListener) {
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut greeting = Vec::new();
    client.read_to_end(&mut greeting).expect("a greeting");
    assert_eq!(greeting, GREETING);
}

const GREETING: &[u8] = b"hello";
