//! Lookups against a resolver that answers when the test says so.

use std::{
    collections::HashSet,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    task::Wake,
    thread::Thread,
};

use super::*;

/// Runs a future on this thread, woken from any.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// A resolver whose every lookup says that it has started and then waits to be let go.
fn gated() -> (Resolver, Receiver<String>, Sender<()>) {
    let (started, starts) = mpsc::channel();
    let (go, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let resolver = Resolver::with(move |name, port| {
        started.send(name.to_string()).expect("the test listens");
        lock(&gate).recv().expect("the test lets go");
        Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))])
    });
    (resolver, starts, go)
}

#[test]
fn lookups_are_sent_between_threads() {
    fn is_send<T: Send + Sync + 'static>() {}
    is_send::<Lookup>();
    is_send::<Resolver>();
}

#[test]
fn the_systems_resolver_answers() {
    let resolver = Resolver::new();
    let addrs = block_on(resolver.resolve("localhost", 80)).unwrap();
    assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80), "{addrs:?}");
    assert_eq!(block_on(resolver.resolve("10.0.0.5", 1)), Ok(vec!["10.0.0.5:1".parse().unwrap()]));
    // RFC 6761: never a name. Without a network it may also be a temporary failure.
    let error = block_on(resolver.resolve("nothing.invalid", 80)).unwrap_err();
    assert!(matches!(error, ResolveError::NotFound { .. } | ResolveError::Failed { .. }), "{error}");
}

#[test]
fn addresses_come_once_each_and_at_most_eight() {
    let resolver = Resolver::with(|_, port| {
        Ok((0..40_u8).map(|i| SocketAddr::from(([10, 0, 0, i / 2], port))).collect())
    });
    let expected: Vec<SocketAddr> = (0..8).map(|i| SocketAddr::from(([10, 0, 0, i], 5))).collect();
    assert_eq!(block_on(resolver.resolve("many", 5)), Ok(expected));
}

#[test]
fn unknown_names_and_failures_are_told_apart() {
    let resolver = Resolver::with(|name, _| match name {
        "empty" => Ok(Vec::new()),
        "panics" => panic!("on purpose"),
        reason => Err(io::Error::other(format!("failed to lookup address information: {reason}"))),
    });
    for (reason, not_found) in [
        ("Name or service not known", true),
        ("No address associated with hostname", true),
        ("Name does not resolve", true),
        ("empty", true),
        ("Temporary failure in name resolution", false),
        ("Try again", false),
        ("panics", false),
    ] {
        let error = block_on(resolver.resolve(reason, 80)).unwrap_err();
        assert_eq!(matches!(error, ResolveError::NotFound { .. }), not_found, "{error}");
        assert_eq!(matches!(error, ResolveError::Failed { .. }), !not_found, "{error}");
    }
}

#[test]
fn threads_and_queue_are_bounded() {
    let (resolver, starts, go) = gated();
    let running: Vec<Lookup> = (0..THREADS_MAX).map(|_| resolver.resolve("running", 1)).collect();
    for _ in &running {
        starts.recv().unwrap();
    }
    let queued: Vec<Lookup> = (0..QUEUED_MAX).map(|_| resolver.resolve("queued", 1)).collect();
    assert_eq!(resolver.shared.lock().threads, THREADS_MAX);
    assert_eq!(block_on(resolver.resolve("more", 1)), Err(ResolveError::Busy { name: "more".into() }));

    for _ in 0..running.len() + queued.len() {
        go.send(()).unwrap();
    }
    for lookup in running.into_iter().chain(queued) {
        assert!(block_on(lookup).is_ok());
    }
    assert_eq!(starts.try_iter().filter(|name| name == "queued").count(), QUEUED_MAX);
}

#[test]
fn a_dropped_lookup_leaves_the_queue() {
    let (resolver, starts, go) = gated();
    let mut running: Vec<Lookup> = (0..THREADS_MAX).map(|_| resolver.resolve("running", 1)).collect();
    for _ in &running {
        starts.recv().unwrap();
    }
    let first = resolver.resolve("first", 1);
    let second = resolver.resolve("second", 1);
    drop(first);
    // A running one cannot be stopped; its answer goes nowhere.
    running.pop();
    for _ in 0..=THREADS_MAX {
        go.send(()).unwrap();
    }
    assert!(block_on(second).is_ok());
    for lookup in running {
        assert!(block_on(lookup).is_ok());
    }
    assert_eq!(starts.try_iter().collect::<Vec<_>>(), ["second"]);
}

/// The waker of the last poll is the one that counts.
#[test]
fn the_last_waker_is_woken() {
    struct Count(AtomicUsize, Sender<()>);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            self.1.send(()).expect("the test listens");
        }
    }
    let (resolver, starts, go) = gated();
    let mut lookup = resolver.resolve("name", 1);
    starts.recv().unwrap();
    let (woken, wakes) = mpsc::channel();
    assert!(Pin::new(&mut lookup).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let count = Arc::new(Count(AtomicUsize::new(0), woken));
    let waker = Waker::from(Arc::clone(&count));
    assert!(Pin::new(&mut lookup).poll(&mut Context::from_waker(&waker)).is_pending());
    go.send(()).unwrap();
    wakes.recv().unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(Pin::new(&mut lookup).poll(&mut Context::from_waker(&waker)).is_ready());
}

#[test]
fn a_dropped_resolver_finishes_its_lookups_and_its_threads_end() {
    let (resolver, starts, go) = gated();
    let lookups: Vec<Lookup> = (0..THREADS_MAX + 4).map(|_| resolver.resolve("name", 1)).collect();
    let shared = Arc::downgrade(&resolver.shared);
    drop(resolver);
    for _ in &lookups {
        go.send(()).unwrap();
    }
    for lookup in lookups {
        assert!(block_on(lookup).is_ok());
    }
    // Each thread holds the closure that sends; the channel ends with the last of them.
    while starts.recv().is_ok() {}
    assert_eq!(shared.strong_count(), 0);
}

#[test]
fn threads_are_used_again() {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let seers = Arc::clone(&seen);
    let resolver = Resolver::with(move |_, port| {
        lock(&seers).insert(thread::current().id());
        Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))])
    });
    for _ in 0..1_000 {
        block_on(resolver.resolve("name", 1)).unwrap();
    }
    assert!(lock(&seen).len() <= THREADS_MAX);
}
