//! Places for connections, and addresses that do not answer.

#![expect(clippy::disallowed_methods, reason = "the peers are std's, on loopback, where nothing keeps them")]

use std::net::{TcpListener, TcpStream as StdStream};

use conet_rt::{WorkerConfig, net::ListenOptions};

use super::*;
use crate::{
    config::limits::Limits,
    pool::{Pool, Pooled, Pools},
};

fn on_worker<F: Future>(test: F) -> F::Output {
    conet_rt::block_on(WorkerConfig::default(), test).expect("a worker starts")
}

fn soon() -> Option<Instant> {
    Some(time::after(Duration::from_secs(60)))
}

/// One outbound connection for all, and a pool to keep it in.
struct Fixture {
    listener: TcpListener,
    outbound: Arc<Quota>,
    pools: Arc<Pools>,
    commons: Arc<Commons>,
}

impl Fixture {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (pools, commons) = (Arc::new(Pools::new(&Limits::default(), false)), Commons::new());
        commons.add_pools(&pools);
        Self { listener, outbound: Quota::new(1), pools, commons }
    }

    fn pool(&self) -> Pool {
        self.pools.open(Target::Name("test".into(), 1), None).expect("the first pool")
    }

    async fn get(&self) -> Pooled {
        let address = self.listener.local_addr().expect("it is bound");
        let connect = async || {
            let permit = self.outbound.try_acquire(1).ok_or("no permit")?;
            let stream = StdStream::connect(address).expect("it listens");
            Ok::<_, &str>((TcpStream::from_fd(stream.into()).expect("connected"), permit))
        };
        self.pool().get(soon(), connect).await.unwrap_or_else(|error| panic!("{error:?}"))
    }
}

#[test]
fn a_connection_that_would_become_idle_gives_its_place_to_a_connect_that_waits() {
    on_worker(async {
        let fixture = Fixture::new();
        let lent = fixture.get().await;
        let (outbound, commons) = (fixture.outbound.clone(), fixture.commons.clone());
        let connecting = conet_rt::spawn(async move { place(&outbound, &commons).await });
        while !fixture.outbound.is_wanted() {
            time::yield_now().await;
        }
        drop(lent);
        let placed = time::timeout_at(soon(), connecting).await.expect("the place is free");
        assert_eq!(fixture.pool().stats().idle, 0);
        drop(placed);
        // Nobody waits: it is kept again.
        drop(fixture.get().await);
        assert_eq!(fixture.pool().stats().idle, 1);
    });
}

#[test]
fn an_idle_connection_makes_room_at_once() {
    on_worker(async {
        let fixture = Fixture::new();
        drop(fixture.get().await);
        assert_eq!((fixture.pool().stats().idle, fixture.outbound.used()), (1, 1));
        time::timeout_at(soon(), place(&fixture.outbound, &fixture.commons)).await.expect("a place");
        assert_eq!(fixture.pool().stats().open, 0);
    });
}

/// The first address answers nothing at all: its listener's queue is full.
#[test]
fn an_address_that_does_not_answer_leaves_time_for_the_next() {
    on_worker(async {
        let full = ListenOptions { backlog: 0, ..ListenOptions::default() };
        let full = full.listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let silent = full.local_addr().expect("it is bound");
        let _queued = StdStream::connect(silent).expect("one fits");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");

        let alone = first_of(&[silent], time::after(Duration::from_millis(50))).await;
        assert_eq!(alone.err(), Some(ErrorCode::TimedOut), "it does not answer");
        let connected = first_of(&[silent, address], time::after(Duration::from_secs(2))).await;
        assert_eq!(connected.expect("the second answers").peer_addr().expect("connected"), address);
    });
}
