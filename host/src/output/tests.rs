use std::{
    io,
    sync::{
        atomic::AtomicUsize,
        mpsc::{Receiver, Sender, channel},
    },
    task::Wake,
    time::Duration,
};

use super::*;

/// A sink that takes nothing until the test lets it.
struct Gate(Receiver<()>);

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Open for good when the test has dropped the other end.
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn blocked() -> (Arc<Output>, Sender<()>) {
    let (open, gate) = channel();
    (Output::start("gate", Gate(gate)).expect("a thread"), open)
}

fn chunk() -> Bytes {
    Bytes::from_static(&[b'x'; CHUNK_BYTES_MAX])
}

/// Writes until no more permits are given.
fn fill(writer: &mut Writer) -> usize {
    let mut written = 0;
    while let CHUNK_BYTES_MAX = writer.permit().expect("it is open") {
        writer.write(chunk()).expect("it was permitted");
        written += CHUNK_BYTES_MAX;
    }
    written
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn permit_holds_whatever_others_write_meanwhile() {
    let (output, _shut) = blocked();
    let mut permitted: Vec<_> = (0..20).map(|_| output.writer()).collect();
    permitted.retain_mut(|writer| writer.permit() == Ok(CHUNK_BYTES_MAX));
    assert!((2..20).contains(&permitted.len()), "{} permits", permitted.len());
    for writer in &mut permitted {
        assert_eq!(writer.write(chunk()), Ok(()), "it had a permit for it");
    }
    let mut late = output.writer();
    assert_eq!(late.permit(), Ok(0));
    assert_eq!(late.write(chunk()), Err(Refused::NotPermitted));
}

#[test]
fn what_is_not_used_of_a_permit_is_given_back() {
    let (output, open) = blocked();
    let (mut idle, mut dropped) = (output.writer(), output.writer());
    assert_eq!(idle.permit(), Ok(CHUNK_BYTES_MAX));
    assert_eq!(idle.permit(), Ok(CHUNK_BYTES_MAX), "the same once more");
    assert_eq!(dropped.permit(), Ok(CHUNK_BYTES_MAX));
    assert_eq!(output.queue().permitted_bytes, 2 * CHUNK_BYTES_MAX);
    idle.write(Bytes::from_static(b"x")).expect("it was permitted");
    assert_eq!(output.queue().permitted_bytes, CHUNK_BYTES_MAX);
    drop(dropped);
    assert_eq!(output.queue().permitted_bytes, 0);
    drop(open);
    assert!(output.flush(None));
    assert_eq!(output.unwritten_bytes(), 0);
}

#[test]
fn permits_that_are_kept_do_not_stop_those_who_write_without() {
    let (output, _shut) = blocked();
    let mut hoard: Vec<_> = (0..20).map(|_| output.writer()).collect();
    hoard.retain_mut(|writer| writer.permit() == Ok(CHUNK_BYTES_MAX));
    let mut cx = Context::from_waker(Waker::noop());
    let mut honest = output.writer();
    assert_eq!(honest.permit(), Ok(0));
    assert_eq!(honest.poll_write(&mut cx, &chunk()), Poll::Ready(Ok(())));
    // Together they are within the bound.
    hoard.iter_mut().for_each(|writer| writer.write(chunk()).expect("it was permitted"));
    while honest.poll_write(&mut cx, &chunk()).is_ready() {}
    assert!(output.queue().pending_bytes <= QUEUE_BYTES_MAX, "{}", output.queue().pending_bytes);
}

#[test]
fn nothing_is_queued_for_nothing() {
    let (output, _shut) = blocked();
    let mut writer = output.writer();
    fill(&mut writer);
    let queued = output.queue().chunks.len();
    for _ in 0..100 {
        assert_eq!(writer.write(Bytes::new()), Ok(()));
    }
    assert_eq!(output.queue().chunks.len(), queued);
}

#[test]
fn writer_waits_once_however_often_it_is_polled() {
    let (output, open) = blocked();
    let (mut writer, mut gone) = (output.writer(), output.writer());
    fill(&mut writer);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    for _ in 0..100 {
        assert!(writer.poll_permit(&mut cx).is_pending());
        assert!(gone.poll_permit(&mut cx).is_pending());
    }
    assert_eq!(output.queue().waiting.len(), 2);
    drop(gone);
    assert_eq!(output.queue().waiting.len(), 1);
    drop(open);
    assert!(output.flush(None));
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(writer.poll_permit(&mut cx).is_ready());
}

#[test]
fn flush_of_a_blocked_sink_ends_at_the_deadline_and_the_rest_is_counted() {
    let (output, open) = blocked();
    let written = fill(&mut output.writer());
    assert!(!output.flush(Some(Instant::now() + Duration::from_millis(10))));
    assert_eq!(output.unwritten_bytes(), written as u64);
    drop(open);
    assert!(output.flush(None));
    assert_eq!(output.unwritten_bytes(), 0);
}

#[test]
fn what_is_offered_beyond_the_bound_is_lost_and_counted() {
    let (output, _shut) = blocked();
    assert!(output.offer(Bytes::from_static(b"1234"), 6));
    assert!(!output.offer(Bytes::from_static(b"567"), 6));
    assert!(output.offer(Bytes::from_static(b"56"), 6));
    assert_eq!(output.unwritten_bytes(), 9);
}

#[test]
fn closed_sink_refuses_and_counts() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let output = Output::start("closed", Closed).expect("a thread");
    let mut writer = output.writer();
    writer.write(Bytes::from_static(b"1234")).expect("nobody knows yet");
    assert!(output.flush(None));
    assert_eq!(writer.permit(), Err(Refused::Closed));
    assert_eq!(writer.write(Bytes::from_static(b"56")), Err(Refused::Closed));
    assert_eq!(output.unwritten_bytes(), 6);
}

/// A disk may be full for one chunk and have room for the next: what comes after a gap is worth nothing.
#[test]
fn nothing_is_written_after_what_the_sink_has_refused() {
    /// Answers each write as the test tells it to, and after that takes everything.
    struct Told(Receiver<bool>, Arc<AtomicUsize>);
    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.0.recv().unwrap_or(true) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.fetch_add(bytes.len(), Ordering::SeqCst);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (tell, told) = channel();
    let taken = Arc::new(AtomicUsize::new(0));
    let output = Output::start("told", Told(told, taken.clone())).expect("a thread");
    let mut writer = output.writer();
    for _ in 0..4 {
        writer.write(chunk()).expect("there is room");
    }
    tell.send(true).expect("it listens");
    tell.send(false).expect("it listens");
    drop(tell);
    let queue = output.changed.wait_while(output.queue(), |queue| queue.pending_bytes > 0);
    drop(queue.expect("no test panics with it"));
    assert_eq!(taken.load(Ordering::SeqCst), CHUNK_BYTES_MAX);
    assert_eq!(output.unwritten_bytes(), 3 * CHUNK_BYTES_MAX as u64);
}

/// A guest that prints byte by byte must not make the host keep an allocation for each.
#[test]
fn short_chunks_are_joined_and_come_out_in_order() {
    let (mut reader, sink) = io::pipe().expect("descriptors");
    let output = Output::start("pipe", sink).expect("a thread");
    let mut writer = output.writer();
    let mut cx = Context::from_waker(Waker::noop());
    let mut written = Vec::new();
    // Far more than the pipe holds.
    for number in 0_u32.. {
        let byte = number.wrapping_mul(0x9e37_79b9).to_be_bytes()[0];
        match writer.poll_write(&mut cx, &Bytes::copy_from_slice(&[byte])) {
            Poll::Ready(taken) => taken.expect("it is open"),
            Poll::Pending => break,
        }
        written.push(byte);
    }
    let queue = output.queue();
    let (chunks, pending) = (queue.chunks.len(), queue.pending_bytes);
    drop(queue);
    assert!(pending >= QUEUE_BYTES_MAX / 2 && chunks <= pending / 1024, "{chunks} chunks of {pending} bytes");
    let mut read = vec![0; written.len()];
    io::Read::read_exact(&mut reader, &mut read).expect("as many as were written");
    assert!(read == written, "the bytes in their order");
}
