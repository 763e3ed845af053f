//! Sockets of the native build behave as the contract says.
#![cfg(not(target_family = "wasm"))]

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use conet::ErrorCode;
use conet::net::{Shutdown, TcpListener, TcpStream};

fn code<T>(result: io::Result<T>) -> Option<ErrorCode> {
    result.err().as_ref().and_then(ErrorCode::of)
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

#[test]
fn a_waiting_accept_lets_others_run() {
    let answer = conet::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        conet::go(move || TcpStream::connect(address)?.write_all(b"hi"))?;
        let mut answer = String::new();
        listener.accept()?.0.read_to_string(&mut answer)?;
        io::Result::Ok(answer)
    });
    assert_eq!(answer.unwrap(), "hi");
}

#[test]
fn incoming_gives_each_connection() {
    let answers = conet::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        conet::go(move || {
            for byte in 0..3 {
                TcpStream::connect(address)?.write_all(&[byte])?;
            }
            io::Result::Ok(())
        })?;
        let mut answers = Vec::new();
        for conn in listener.incoming().take(3) {
            conn?.read_to_end(&mut answers)?;
        }
        io::Result::Ok(answers)
    });
    assert_eq!(answers.unwrap(), [0, 1, 2]);
}

#[test]
fn a_read_timeout_runs_out_and_loses_nothing() {
    conet::run(|| {
        let (mut client, mut server) = pair()?;
        client.set_read_timeout(Some(Duration::from_millis(10)))?;
        let error = client.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(ErrorCode::of(&error), Some(ErrorCode::TimedOut));

        server.write_all(b"late")?;
        client.set_read_timeout(None)?;
        let mut answer = [0; 4];
        client.read_exact(&mut answer)?;
        assert_eq!(&answer, b"late");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_write_timeout_runs_out_when_nobody_reads() {
    conet::run(|| {
        let (mut client, _server) = pair()?;
        client.set_write_timeout(Some(Duration::from_millis(10)))?;
        let chunk = [7; 65_536];
        let error = (0..10_000).find_map(|_| client.write(&chunk).err()).expect("buffers have an end");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn timeouts_are_told_and_zero_is_refused() {
    conet::run(|| {
        let (client, _server) = pair()?;
        assert_eq!(client.read_timeout()?, None);
        client.set_read_timeout(Some(Duration::from_secs(3)))?;
        assert_eq!(client.read_timeout()?, Some(Duration::from_secs(3)));
        assert_eq!(client.write_timeout()?, None);
        for result in [
            client.set_read_timeout(Some(Duration::ZERO)),
            client.set_write_timeout(Some(Duration::ZERO)),
            TcpStream::connect_timeout("127.0.0.1:1", Duration::ZERO).map(drop),
        ] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn shutdown_ends_one_direction() {
    conet::run(|| {
        let (mut client, mut server) = pair()?;
        client.write_all(b"question")?;
        client.shutdown(Shutdown::Write)?;
        let mut question = String::new();
        server.read_to_string(&mut question)?;
        assert_eq!(question, "question");
        assert_eq!(code(client.write(b"more")), Some(ErrorCode::Closed));

        server.write_all(b"answer")?;
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        assert_eq!(answer, "answer");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn close_wakes_a_reader() {
    let woken = conet::run(|| {
        let (client, _server) = pair()?;
        let client = Rc::new(client);
        let reader = Rc::clone(&client);
        let woken = Rc::new(Cell::new(None));
        let told = Rc::clone(&woken);
        conet::go(move || told.set(code((&*reader).read(&mut [0; 8]))))?;
        // The reader has the turn until it waits.
        conet::yield_now();
        client.close();
        while woken.get().is_none() {
            conet::yield_now();
        }
        assert_eq!(code(client.peer_addr()), Some(ErrorCode::Closed));
        assert_eq!(code((&*client).write(b"x")), Some(ErrorCode::Closed));
        io::Result::Ok(woken.get())
    });
    assert_eq!(woken.unwrap(), Some(ErrorCode::Closed));
}

#[test]
fn one_reads_while_another_writes_and_a_second_reader_is_told() {
    conet::run(|| {
        let (client, mut server) = pair()?;
        let client = Rc::new(client);
        let reader = Rc::clone(&client);
        let answer = Rc::new(Cell::new([0; 4]));
        let told = Rc::clone(&answer);
        conet::go(move || {
            let mut bytes = [0; 4];
            (&*reader).read_exact(&mut bytes)?;
            told.set(bytes);
            io::Result::Ok(())
        })?;
        conet::yield_now();
        assert_eq!(code((&*client).read(&mut [0])), Some(ErrorCode::Busy));
        (&*client).write_all(b"ping")?;
        let mut request = [0; 4];
        server.read_exact(&mut request)?;
        server.write_all(b"pong")?;
        while &answer.get() != b"pong" {
            conet::yield_now();
        }
        assert_eq!(&request, b"ping");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn an_abrupt_end_is_a_reset() {
    conet::run(|| {
        let (mut client, mut server) = pair()?;
        client.write_all(b"unread")?;
        server.read_exact(&mut [0])?;
        // Closing with bytes unread resets the connection.
        drop(server);
        let error = loop {
            if let Err(error) = client.write(b"x") {
                break error;
            }
        };
        assert_eq!(ErrorCode::of(&error), Some(ErrorCode::ConnectionReset));
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn each_error_has_its_code() {
    conet::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        assert_eq!(code(TcpListener::bind(address)), Some(ErrorCode::AddressInUse));
        assert_eq!(code(TcpListener::bind("192.0.2.1:0")), Some(ErrorCode::AddressNotAvailable));
        assert_eq!(code(TcpListener::bind("localhost:0")), Some(ErrorCode::InvalidArgument));
        drop(listener);
        assert_eq!(code(TcpStream::connect(address)), Some(ErrorCode::ConnectionRefused));
        for target in ["no such name:1", "127.1:1", "localhost:0", "127.0.0.1:0"] {
            assert_eq!(code(TcpStream::connect(target)), Some(ErrorCode::InvalidArgument), "{target}");
        }
        assert_eq!(code(TcpStream::connect("no-such-name.invalid:1")), Some(ErrorCode::NameNotFound));
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_name_is_resolved() {
    let peer = conet::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(("localhost", listener.local_addr()?.port()))?;
        client.set_nodelay(false)?;
        client.peer_addr()
    });
    assert!(peer.unwrap().ip().is_loopback());
}

#[test]
fn an_empty_buffer_moves_nothing() {
    conet::run(|| {
        let (mut client, _server) = pair()?;
        assert_eq!(client.read(&mut [])?, 0);
        assert_eq!(client.write(&[])?, 0);
        io::Result::Ok(())
    })
    .unwrap();
}

/// Streams go between threads and are shared by them, as std's are.
#[test]
fn streams_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<TcpStream>();
    check::<TcpListener>();
    check::<conet::pool::Pool>();
}
