//! Connections: what arrives, what is refused, what survives a cancellation.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use conet_rt::net::TcpStream;
use conet_rt::{Worker, error, spawn, time};

use crate::drivers::*;

#[test]
fn echo_is_exact_over_megabytes() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let sent = bytes(8 << 20);
        let echo = spawn(async move {
            loop {
                let chunk = far.recv(64 * 1024).await.unwrap();
                if chunk.is_empty() {
                    return;
                }
                send_all(&far, &chunk).await.unwrap();
            }
        });
        let (sending, receiving) = {
            let sent = sent.clone();
            let near = std::rc::Rc::new(near);
            let reader = near.clone();
            let sending = spawn(async move {
                send_all(&near, &sent).await.unwrap();
                near.shutdown(Shutdown::Write).unwrap();
            });
            (sending, spawn(async move { recv_all(&reader).await.unwrap() }))
        };
        assert!(receiving.await.unwrap() == sent);
        sending.await.unwrap();
        echo.await.unwrap();
    });
}

/// Also on another worker's turn with it, and by a reader that wants less than there is.
#[test]
fn what_is_given_back_comes_first() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        send_all(&near, b"header and body").await.unwrap();
        let first = recv_exact(&far, 15).await.unwrap();
        send_all(&near, b", then more").await.unwrap();
        far.unread(&first[7..]).unwrap();
        assert!(!far.is_idle());
        let far = TcpStream::attach(far.detach().unwrap()).unwrap();
        assert_eq!(&*far.recv(4).await.unwrap(), b"and ");
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(recv_all(&far).await.unwrap(), b"body, then more");
        // The end stays behind what is given back.
        far.unread(b"again").unwrap();
        assert_eq!(recv_all(&far).await.unwrap(), b"again");
    });
}

#[test]
fn nothing_is_given_back_under_a_reader() {
    under_every_driver(|| async {
        let (_near, far) = pair().await;
        let mut reading = far.recv(10);
        assert!(poll_once(&mut reading).await.is_pending());
        assert!(error::is_busy(&far.unread(b"late").unwrap_err()));
    });
}

#[test]
fn each_side_ends_its_own_direction() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        send_all(&near, b"question").await.unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(recv_all(&far).await.unwrap(), b"question");
        // The end of a stream stays.
        assert!(far.recv(10).await.unwrap().is_empty());
        send_all(&far, b"answer").await.unwrap();
        drop(far);
        assert_eq!(recv_all(&near).await.unwrap(), b"answer");
        let error = near.send(b"more".to_vec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_reset_reaches_the_peer() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let waiting = spawn(async move { far.recv(10).await.unwrap_err().kind() });
        time::yield_now().await;
        near.reset();
        assert_eq!(waiting.await.unwrap(), ErrorKind::ConnectionReset);
    });
}

/// And an end in order is none. Whether or not anything waits for it to be received.
#[test]
fn that_a_peer_has_reset_is_seen_by_who_asks() {
    for driver in real_drivers() {
        under(driver, async {
            let ((near, far), (other, its_far)) = (std_pair().await, std_pair().await);
            send_all(&other, b"unread").await.unwrap();
            drop(its_far);
            let (near, other) = (near.resetter(), (other.resetter(), other));
            assert!(!near.is_cut_off());
            until(|| other.0.is_cut_off()).await;
            far.shutdown(Shutdown::Write).unwrap();
            look().await;
            assert!(!near.is_cut_off());
        });
    }
}

/// Not under the test driver, where a reset may overtake it.
#[test]
fn what_was_sent_comes_before_a_reset() {
    for driver in real_drivers() {
        under(driver, async {
            let (near, mut far) = std_pair().await;
            near.send(b"last words".to_vec()).await.unwrap();
            near.reset();
            let mut received = [0; 10];
            far.read_exact(&mut received).unwrap();
            assert_eq!(&received, b"last words");
            assert_eq!(far.read(&mut received).unwrap_err().kind(), ErrorKind::ConnectionReset);
        });
    }
}

#[test]
fn a_second_reader_is_busy_and_a_writer_is_not() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let mut first = near.recv(10);
        assert!(poll_once(&mut first).await.is_pending());
        assert!(error::is_busy(&near.recv(10).await.unwrap_err()));
        send_all(&near, b"ping").await.unwrap();
        assert_eq!(recv_exact(&far, 4).await.unwrap(), b"ping");
        send_all(&far, b"pong").await.unwrap();
        assert_eq!(&*first.await.unwrap(), b"pong");
    });
}

#[test]
fn a_second_writer_is_busy() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let mut sent = 0;
        let mut stuck = loop {
            let mut send = near.send(vec![7; 64 * 1024]);
            // Under the test driver a send that is going to succeed is pending too, for some turns.
            match time::timeout(Duration::from_millis(50), &mut send).await {
                Ok(taken) => sent += taken.unwrap(),
                Err(_) => break send,
            }
        };
        assert!(poll_once(&mut stuck).await.is_pending());
        assert!(error::is_busy(&near.send(vec![1]).await.unwrap_err()));
        assert!(error::is_busy(&near.try_send(&[1]).unwrap_err()));
        let reader = spawn(async move { recv_all(&far).await.unwrap() });
        sent += stuck.await.unwrap();
        drop(near);
        assert_eq!(reader.await.unwrap().len(), sent);
    });
}

#[test]
fn a_timeout_loses_no_byte() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let sent = bytes(64 * 1024);
        let expected = sent.clone();
        let sender = spawn(async move {
            for part in sent.chunks(97) {
                send_all(&far, part).await.unwrap();
                time::yield_now().await;
            }
        });
        let mut received = Vec::new();
        let mut timeouts = 0;
        for max in (1..200).cycle() {
            // Half of them are given up on the spot.
            let limit = Duration::from_millis(max % 2 * 1000);
            match time::timeout(limit, near.recv(max as usize)).await {
                Ok(chunk) => {
                    let chunk = chunk.unwrap();
                    assert!(chunk.len() <= max as usize);
                    if chunk.is_empty() {
                        break;
                    }
                    received.extend_from_slice(&chunk);
                }
                Err(_) => {
                    timeouts += 1;
                    time::yield_now().await;
                }
            }
        }
        assert!(received == expected);
        assert!(timeouts > 0, "nothing was cancelled");
        sender.await.unwrap();
    });
}

#[test]
fn close_wakes_whoever_waits() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let near = std::rc::Rc::new(near);
        let closer = near.clone();
        let waiting = spawn(async move { near.recv(10).await });
        time::yield_now().await;
        closer.close();
        assert!(error::is_closed(&waiting.await.unwrap().unwrap_err()));
        assert!(error::is_closed(&closer.recv(10).await.unwrap_err()));
        assert!(error::is_closed(&closer.send(vec![1]).await.unwrap_err()));
        assert!(error::is_closed(&closer.try_send(&[1]).unwrap_err()));
        assert!(error::is_closed(&closer.peer_addr().unwrap_err()));
        assert!(error::is_closed(&closer.shutdown(Shutdown::Both).unwrap_err()));
        assert!(!closer.is_idle());
        assert!(far.recv(10).await.unwrap().is_empty());
    });
}

#[test]
fn an_operation_outlives_its_stream_object() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let mut recv = near.recv(10);
        assert!(poll_once(&mut recv).await.is_pending());
        drop(near);
        assert!(error::is_closed(&recv.await.unwrap_err()));
        assert!(far.recv(10).await.unwrap().is_empty());
    });
}

#[test]
fn idle_means_ready_for_another_request() {
    under_every_driver(|| async {
        let (near, mut far) = std_pair().await;
        assert!(near.is_idle());
        for _ in 0..3 {
            far.write_all(b"hello").unwrap();
            assert_eq!(recv_exact(&near, 5).await.unwrap(), b"hello");
            assert!(near.is_idle());
        }
        let mut recv = near.recv(10);
        assert!(poll_once(&mut recv).await.is_pending());
        assert!(!near.is_idle(), "a recv is in flight");
        drop(recv);
        until(|| near.is_idle()).await;
        far.write_all(b"x").unwrap();
        until(|| !near.is_idle()).await;
        assert_eq!(&*near.recv(10).await.unwrap(), b"x");
        assert!(near.is_idle());
        drop(far);
        until(|| !near.is_idle()).await;
    });
}

#[test]
fn a_stream_moves_to_another_worker() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let fd = near.into_fd().unwrap();
        let other = Worker::start(Default::default()).unwrap();
        let echo = move || async move {
            let stream = TcpStream::from_fd(fd).unwrap();
            let chunk = stream.recv(10).await.unwrap();
            stream.send(chunk.into_vec()).await.unwrap();
        };
        other.handle().spawn(echo).unwrap();
        send_all(&far, b"moved").await.unwrap();
        assert_eq!(recv_all(&far).await.unwrap(), b"moved");
        other.stop();
        other.join().unwrap();
    });
}

#[test]
fn what_was_received_moves_along() {
    under_every_driver(|| async {
        for _ in 0..50 {
            let (near, far) = warm_pair().await;
            let mut recv = near.recv(10);
            assert!(poll_once(&mut recv).await.is_pending());
            send_all(&far, b"early").await.unwrap();
            // It is given up while the bytes come, or after.
            look().await;
            drop(recv);
            let detached = match near.detach() {
                Ok(detached) => detached,
                // The test driver has not ended it yet.
                Err(error) => {
                    assert!(error::is_busy(&error));
                    continue;
                }
            };
            let other = Worker::start(Default::default()).unwrap();
            let (received, receiving) = std::sync::mpsc::channel();
            let receive = move || async move {
                let stream = TcpStream::attach(detached).unwrap();
                received.send(stream.recv(10).await.unwrap().into_vec()).unwrap();
            };
            other.handle().spawn(receive).unwrap();
            assert_eq!(receiving.recv().unwrap(), b"early");
            other.stop();
            other.join().unwrap();
            return;
        }
        panic!("it was never ended in time");
    });
}

/// More than is kept for one that does not ask, and slowly taken then.
#[test]
fn what_comes_while_nobody_waits_is_there_later() {
    under_every_driver(|| async {
        let (near, far) = warm_pair().await;
        assert!(time::timeout(Duration::ZERO, near.recv(1)).await.is_err());
        let sent = bytes(300_000);
        let expected = sent.clone();
        let sending = spawn(async move {
            for part in sent.chunks(5_000) {
                send_all(&far, part).await.unwrap();
                look().await;
            }
        });
        for _ in 0..20 {
            look().await;
        }
        let mut received = Vec::new();
        for max in [1, 10_000, 64 * 1024, 100].iter().cycle() {
            let chunk = near.recv(*max).await.unwrap();
            assert!(chunk.len() <= *max);
            if chunk.is_empty() {
                break;
            }
            received.extend_from_slice(&chunk);
        }
        assert!(received == expected);
        sending.await.unwrap();
    });
}

/// As any connection with bytes that nobody has read.
#[test]
fn a_connection_closed_over_unread_bytes_is_reset() {
    under_every_driver(|| async {
        let (near, mut far) = std_pair().await;
        for _ in 0..3 {
            far.write_all(b"read").unwrap();
            assert_eq!(recv_exact(&near, 4).await.unwrap(), b"read");
        }
        far.write_all(b"unread").unwrap();
        look().await;
        drop(near);
        // It has left by then.
        look().await;
        assert_eq!(far.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_stream_in_use_does_not_move() {
    under_every_driver(|| async {
        let (near, _far) = pair().await;
        let mut recv = near.recv(10);
        assert!(poll_once(&mut recv).await.is_pending());
        assert!(error::is_busy(&near.into_fd().unwrap_err()));
    });
}

#[test]
fn nodelay_is_on() {
    under_every_driver(|| async {
        let is_on =
            |stream: TcpStream| std::net::TcpStream::from(stream.into_fd().unwrap()).nodelay().unwrap();
        let (near, far) = pair().await;
        assert!(is_on(near));
        assert!(is_on(far), "it is inherited from the listener");
        let (near, _far) = pair().await;
        near.set_nodelay(false).unwrap();
        assert!(!is_on(near));
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    under_every_driver(|| async {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_cancelled_connect_leaves_nothing_open() {
    under_every_driver(|| async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connect = TcpStream::connect(listener.local_addr().unwrap());
        if poll_once(&mut connect).await.is_pending() {
            drop(connect);
        }
        let (mut accepted, _) = listener.accept().unwrap();
        // The end, or a reset, comes only if the socket on this side has been closed.
        let reader = std::thread::spawn(move || accepted.read(&mut [0; 10]).unwrap_or(0));
        until(|| reader.is_finished()).await;
        assert_eq!(reader.join().unwrap(), 0);
    });
}

#[test]
fn urgent_data_does_not_stall_what_follows() {
    under_every_driver(|| async {
        let (near, mut far) = std_pair().await;
        far.write_all(b"first").unwrap();
        assert_eq!(recv_exact(&near, 5).await.unwrap(), b"first");
        // Registered, so that all depends on events.
        assert!(time::timeout(Duration::ZERO, near.recv(1)).await.is_err());
        far.write_all(b"before").unwrap();
        rustix::net::send(&far, b"!", rustix::net::SendFlags::OOB).unwrap();
        far.write_all(b"after").unwrap();
        // A read stops short at the mark, with more to come and no event for it.
        assert_eq!(recv_exact(&near, 11).await.unwrap(), b"beforeafter");
    });
}

#[test]
fn the_last_waker_counts() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let mut recv = near.recv(10);
        assert!(poll_unheard(&mut recv).is_pending());
        let waiting = spawn(recv);
        time::yield_now().await;
        send_all(&far, b"heard").await.unwrap();
        assert_eq!(&*waiting.await.unwrap().unwrap(), b"heard");
    });
}

#[test]
fn nothing_to_send_and_nothing_to_receive() {
    under_every_driver(|| async {
        let (near, _far) = pair().await;
        assert_eq!(near.send(Vec::new()).await.unwrap(), 0);
        assert_eq!(near.recv(0).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn small_sends_leave_together() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        assert_eq!(near.send(b"one, ".to_vec()).await.unwrap(), 5);
        assert_eq!(near.try_send(b"").unwrap(), 0);
        assert_eq!(near.try_send(b"two").unwrap(), 3);
        assert_eq!(&*far.recv(100).await.unwrap(), b"one, two");
    });
}

#[test]
fn small_and_large_sends_keep_their_order() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let sent = bytes(300_000);
        let expected = sent.clone();
        let sending = spawn(async move {
            let mut rest = &sent[..];
            for len in [1, 4096, 4097, 100, 50_000, 3].iter().cycle() {
                let (part, more) = rest.split_at(rest.len().min(*len));
                send_all(&near, part).await.unwrap();
                if more.is_empty() {
                    return;
                }
                rest = more;
            }
        });
        assert!(recv_all(&far).await.unwrap() == expected);
        sending.await.unwrap();
    });
}

/// The kernel's buffers hold what their sizes say, however small its pieces are.
#[test]
fn small_sends_that_nobody_receives_have_an_end() {
    under_every_driver(|| async {
        let (near, far) = pair().await;
        let mut sent = 0;
        let end = loop {
            match near.try_send(&[7; 1000]) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock && sent < 1_000_000 => {
                    // Under the test driver they take some turns to leave.
                    look().await;
                }
                Err(error) => break error,
            }
            assert!(sent < 100_000_000);
        };
        assert_eq!(end.kind(), ErrorKind::WouldBlock);
        drop(near);
        assert_eq!(recv_all(&far).await.unwrap().len(), sent);
    });
}

#[test]
fn a_reset_that_a_send_meets_is_told() {
    under_every_driver(|| async {
        for receives in [false, true] {
            let (near, far) = pair().await;
            far.reset();
            assert_eq!(near.try_send(b"into the void").unwrap(), 13);
            // It leaves, and under the test driver has its turns.
            look().await;
            let error = match receives {
                true => near.recv(10).await.unwrap_err(),
                false => near.send(vec![7]).await.unwrap_err(),
            };
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(near.try_send(b"again").is_err());
        }
    });
}

/// Its peer is a thread that this one waits for, without giving its worker a chance to look at the sockets.
#[test]
fn a_flush_sends_at_once() {
    under_every_driver(|| async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let near = TcpStream::connect(address).await.unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.send(b"now".to_vec()).await.unwrap();
        far.set_nonblocking(true).unwrap();
        let mut first = [0; 3];
        assert_eq!(far.read(&mut first).unwrap_err().kind(), ErrorKind::WouldBlock, "it waits to be sent");
        far.set_nonblocking(false).unwrap();
        conet_rt::flush();
        far.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"now");
    });
}
