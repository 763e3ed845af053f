//! Requests and their answers, over socket pairs.

use std::{future::poll_fn, io::Write, os::unix::net::UnixStream, sync::Arc};

use conet_rt::WorkerConfig;
use wasmtime::component::Resource;

use super::*;
use crate::{config::limits::Limits, imports::Context as Tenant};

/// A view with connections, and their peers.
struct Instance {
    view: View,
    peers: Vec<UnixStream>,
    connections: Vec<u32>,
}

impl Instance {
    fn new(connections: usize, limits: Limits) -> Instance {
        let context = Tenant::test(limits);
        let view = View::new(context.clone(), 1, 1000);
        let mut instance = Instance { view, peers: Vec::new(), connections: Vec::new() };
        (0..connections).for_each(|_| instance.connect(&context));
        instance
    }

    fn connect(&mut self, context: &Arc<Tenant>) {
        let (socket, peer) = UnixStream::pair().expect("descriptors");
        let stream = TcpStream::from_fd(socket.into()).expect("a stream socket");
        let permit = context.connections.try_acquire(1).expect("there are many");
        let connection = Connection::new(stream, permit, self.view.fate.clone());
        self.connections.push(self.view.table.push(connection).expect("there is room").rep());
        self.peers.push(peer);
    }

    /// Asks to receive from a connection, which is also the request's ticket.
    fn request(&mut self, connection: usize) -> Request {
        let key = self.view.key(&Resource::new_borrow(self.connections[connection]), None).expect("its own");
        Request { key, timeout: None, ticket: connection as u32, max: 100 }
    }

    fn requests(&mut self, connections: usize) -> Vec<Request> {
        (0..connections).map(|connection| self.request(connection)).collect()
    }

    /// The next batch: tickets with their bytes or errors.
    async fn answers(&mut self) -> Vec<(u32, Result<Vec<u8>, ErrorCode>)> {
        let (answers, bytes) = poll_fn(|cx| self.view.poll_answers(cx)).await;
        let mut rest = &bytes[..];
        let answers = answers.into_iter().map(|Answer { ticket, outcome }| {
            let received =
                outcome.map(|length| rest.split_off(..length as usize).expect("all are there").to_vec());
            (ticket, received)
        });
        let answers = answers.collect();
        assert!(rest.is_empty(), "bytes of no answer");
        answers
    }
}

fn run(test: impl AsyncFnOnce() + Send + 'static) {
    conet_rt::block_on(WorkerConfig::default(), async move { test().await }).expect("a worker");
}

#[test]
fn answers_carry_the_bytes_of_their_connections() {
    run(async || {
        let mut instance = Instance::new(3, Limits::default());
        let requests = instance.requests(3);
        instance.view.receive(requests).expect("its own connections");
        instance.peers[2].write_all(b"two").expect("it is open");
        assert_eq!(instance.answers().await, [(2, Ok(b"two".to_vec()))]);
        instance.peers[0].write_all(b"zero").expect("it is open");
        drop(instance.peers.remove(1));
        let mut answers = Vec::new();
        while answers.len() < 2 {
            answers.extend(instance.answers().await);
        }
        answers.sort_by_key(|(ticket, _)| *ticket);
        assert_eq!(answers, [(0, Ok(b"zero".to_vec())), (1, Ok(vec![]))]);
        assert!(instance.view.inbox().under_way.is_empty());
    });
}

#[test]
fn a_batch_is_bounded_and_nothing_is_left_behind() {
    run(async || {
        let count = 3 * ANSWERS;
        let mut instance = Instance::new(count, Limits::default());
        for (index, peer) in instance.peers.iter_mut().enumerate() {
            peer.write_all(&[index as u8]).expect("it is open");
        }
        let requests = instance.requests(count);
        instance.view.receive(requests).expect("its own connections");
        let mut seen = vec![false; count];
        while seen.contains(&false) {
            let answers = instance.answers().await;
            assert!(answers.len() <= ANSWERS, "{} at once", answers.len());
            for (ticket, bytes) in answers {
                assert_eq!(bytes, Ok(vec![ticket as u8]));
                assert!(!std::mem::replace(&mut seen[ticket as usize], true), "{ticket} twice");
            }
        }
    });
}

#[test]
fn long_chunks_are_kept_until_they_are_taken() {
    run(async || {
        let mut instance = Instance::new(2, Limits::default());
        let chunk: Vec<u8> = (0..COPIED_BYTES_MAX + 1).map(|index| index as u8).collect();
        for connection in 0..2 {
            instance.peers[connection].write_all(&chunk).expect("it is open");
            let request = Request { max: 10_000, ..instance.request(connection) };
            instance.view.receive(vec![request]).expect("its own");
        }
        let mut tickets = Vec::new();
        while tickets.len() < 2 {
            let (answers, bytes) = poll_fn(|cx| instance.view.poll_answers(cx)).await;
            assert!(bytes.is_empty());
            for answer in answers {
                assert_eq!(answer.outcome, Ok(KEPT | chunk.len() as u32));
                tickets.push(answer.ticket);
            }
        }
        assert!(instance.view.begin_wait(&[]).is_err(), "they are not taken");
        for ticket in tickets {
            assert_eq!(instance.view.take(ticket).expect("it is kept"), chunk);
            assert!(instance.view.take(ticket).is_err(), "it is taken");
        }
        assert!(instance.view.inbox().kept.is_empty());
    });
}

#[test]
fn kept_chunks_end_a_batch() {
    run(async || {
        let count = 16;
        let mut instance = Instance::new(count, Limits::default());
        let chunk = vec![1; KEPT_BYTES / 4];
        for connection in 0..count {
            instance.peers[connection].write_all(&chunk).expect("it is open, and its buffer holds as much");
            let request = Request { max: u32::MAX, ..instance.request(connection) };
            instance.view.receive(vec![request]).expect("its own");
        }
        let mut answered = 0;
        while answered < count {
            let (answers, _) = poll_fn(|cx| instance.view.poll_answers(cx)).await;
            assert!(answers.len() <= 4, "{} chunks at once", answers.len());
            for answer in answers {
                assert_eq!(instance.view.take(answer.ticket).expect("it is kept"), chunk);
                answered += 1;
            }
        }
    });
}

#[test]
fn trying_to_receive_takes_what_is_there_and_leaves_the_rest_to_a_request() {
    run(async || {
        let mut instance = Instance::new(1, Limits::default());
        let first = instance.connections[0];
        let connection = || Resource::new_borrow(first);
        assert_eq!(instance.view.try_recv(connection(), 10).expect("its own"), Ok(vec![]));
        instance.peers[0].write_all(b"now").expect("it is open");
        let mut received = Vec::new();
        while received.is_empty() {
            // Until the worker has looked at its sockets.
            conet_rt::time::yield_now().await;
            received = instance.view.try_recv(connection(), 3).expect("its own").expect("it is open");
        }
        assert_eq!(received, b"now");
        assert_eq!(
            instance.view.try_recv(connection(), 0).expect("its own"),
            Err(ErrorCode::InvalidArgument)
        );
        let request = instance.request(0);
        instance.view.receive(vec![request]).expect("its own");
        assert!(instance.view.poll_answers(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(instance.view.try_recv(connection(), 10).expect("its own"), Err(ErrorCode::Busy));
        instance.peers[0].write_all(b"later").expect("it is open");
        assert_eq!(instance.answers().await, [(0, Ok(b"later".to_vec()))]);
        instance.peers.clear();
        assert_eq!(
            instance.view.try_recv(connection(), 10).expect("its own"),
            Ok(vec![]),
            "the end is not told here"
        );
        let request = instance.request(0);
        instance.view.receive(vec![request]).expect("its own");
        assert_eq!(instance.answers().await, [(0, Ok(vec![]))]);
    });
}

#[test]
fn a_request_is_refused_or_times_out_by_itself() {
    run(async || {
        let mut instance = Instance::new(2, Limits::default());
        let empty = Request { max: 0, ..instance.request(0) };
        let patient = instance.request(0);
        let second = Request { ticket: 7, ..instance.request(0) };
        let short = Request { timeout: Some(1), ..instance.request(1) };
        instance.view.receive(vec![empty]).expect("its own");
        assert_eq!(instance.answers().await, [(0, Err(ErrorCode::InvalidArgument))]);
        instance.view.receive(vec![patient, second, short]).expect("its own");
        let mut answers = instance.answers().await;
        if answers.len() == 1 {
            answers.extend(instance.answers().await);
        }
        answers.sort_by_key(|(ticket, _)| *ticket);
        assert_eq!(answers, [(1, Err(ErrorCode::TimedOut)), (7, Err(ErrorCode::Busy))]);
        instance.peers[0].write_all(b"late").expect("it is open");
        assert_eq!(instance.answers().await, [(0, Ok(b"late".to_vec()))]);
    });
}

#[test]
fn a_closed_connection_answers_at_once() {
    run(async || {
        let mut instance = Instance::new(1, Limits::default());
        let requests = instance.requests(1);
        instance.view.receive(requests).expect("its own");
        let connection = Resource::new_borrow(instance.connections[0]);
        instance.view.table.get_mut::<Connection>(&connection).expect("its own").close();
        assert_eq!(instance.answers().await, [(0, Err(ErrorCode::Closed))]);
    });
}

#[test]
fn keys_of_others_and_of_those_gone_are_no_keys() {
    run(async || {
        let mut one = Instance::new(2, Limits::default());
        let mut other = Instance::new(2, Limits::default());
        let foreign = other.request(0);
        assert!(one.view.receive(vec![foreign]).is_err());
        let gone = one.request(1);
        one.view.table.delete(Resource::<Connection>::new_own(one.connections[1])).expect("its own");
        assert!(one.view.receive(vec![gone]).is_err());
        let untagged = Request { key: u64::from(one.connections[0]), timeout: None, ticket: 0, max: 1 };
        assert!(one.view.receive(vec![untagged]).is_err());
    });
}

#[test]
fn requests_have_a_limit() {
    run(async || {
        let mut instance = Instance::new(1, Limits { shared_handles_max: 3, ..Limits::default() });
        for _ in 0..3 {
            let requests = instance.requests(1);
            instance.view.receive(requests).expect("three are allowed");
        }
        let requests = instance.requests(1);
        assert!(instance.view.receive(requests).is_err());
    });
}

#[test]
fn requests_and_answers_are_words() {
    let all = |words: &[u64]| -> Option<Vec<_>> {
        let requests = Request::all(words).ok()?;
        Some(requests.map(|Request { key, timeout, ticket, max }| (key, timeout, ticket, max)).collect())
    };
    let words = [7, u64::MAX, 3 << 32 | 100, 8, 0, u64::from(u32::MAX)];
    assert_eq!(all(&words), Some(vec![(7, None, 3, 100), (8, Some(0), 0, u32::MAX)]));
    assert_eq!(all(&words[..5]), None);
    assert_eq!(Answer { ticket: 3, outcome: Ok(65_536) }.word(), 3 << 32 | 65_536);
    let closed = Answer { ticket: 3, outcome: Err(ErrorCode::Closed) }.word();
    assert_eq!(closed, 3 << 32 | 1 << 31 | ErrorCode::Closed as u64);
}
