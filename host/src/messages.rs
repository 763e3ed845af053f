//! The host's own messages on stderr, which may be full or closed: neither holds anybody up, or fails.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::output::{Output, QUEUE_BYTES_MAX};

/// A way to say something to who runs the host. Clones share it.
#[derive(Clone)]
pub struct Messages {
    output: Arc<Output>,
    lost: Arc<AtomicU64>,
    /// Where they go once the thread that writes them is started.
    sink: Arc<Mutex<Option<Sink>>>,
}

type Sink = Box<dyn io::Write + Send>;

impl Messages {
    /// What is said waits until `begin`: a wall that is raised before there are threads holds for all of them.
    pub fn waiting(sink: impl io::Write + Send + 'static) -> Self {
        let sink: Sink = Box::new(sink);
        Self { output: Arc::default(), lost: Arc::default(), sink: Arc::new(Mutex::new(Some(sink))) }
    }

    /// Starts the thread that writes them, if that has not been done.
    pub fn begin(&self) -> io::Result<()> {
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).take();
        sink.map_or(Ok(()), |sink| self.output.write_to("messages", sink))
    }

    /// Begins at once.
    pub fn start(sink: impl io::Write + Send + 'static) -> io::Result<Self> {
        let messages = Self::waiting(sink);
        messages.begin().map(|()| messages)
    }

    /// Says a line, whatever the log level: scripts wait for some.
    pub fn say(&self, line: fmt::Arguments<'_>) {
        self.offer(format!("{line}\n").into_bytes(), QUEUE_BYTES_MAX);
    }

    /// Waits a moment for who reads them, and tells how many were lost: the host ends.
    pub fn finish(&self) {
        self.output.flush(Some(Instant::now() + PATIENCE));
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.say(format_args!(
                "{lost} messages of the host were lost: its stderr was not read fast enough"
            ));
            self.output.flush(Some(Instant::now() + PATIENCE));
        }
    }

    /// Takes a whole line as the log's are taken; whether there was room.
    pub fn log(&self, line: Vec<u8>) -> bool {
        self.offer(line, LOG_BYTES_MAX)
    }

    fn offer(&self, line: Vec<u8>, bytes_max: usize) -> bool {
        let taken = self.output.offer(line.into(), bytes_max);
        if !taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
}

/// The log: a write is a line of it. A guest can make it grow, so there is room beyond it for what `say` says.
impl io::Write for Messages {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.log(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of the log that may wait to be written.
const LOG_BYTES_MAX: usize = QUEUE_BYTES_MAX / 2;
/// How long the host's end waits for its messages to be read.
pub const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{io::Write, net::Shutdown, os::unix::net::UnixStream, thread};

    use super::*;

    #[test]
    fn log_beyond_its_bound_is_lost_and_told_of_and_what_is_said_still_comes() {
        let (sink, reader) = UnixStream::pair().expect("a pair of sockets");
        let mut messages = Messages::start(sink.try_clone().expect("a descriptor")).expect("a thread");
        // Far more than the socket and the queue hold.
        for _ in 0..LINES {
            messages.write_all(&[b'x'; 1023]).expect("it never fails");
        }
        messages.say(format_args!("listening"));
        let read = thread::spawn(move || io::read_to_string(reader).expect("text"));
        messages.finish();
        messages.output.flush(None);
        sink.shutdown(Shutdown::Both).expect("it is connected");
        let text = read.join().expect("it reads");
        let (log, said) = text.split_once("listening\n").expect("it was said");
        let lost: usize = said.split_once(" messages").expect("it is told").0.parse().expect("a number");
        assert!(lost > 0, "{said}");
        assert_eq!(lost + log.len() / 1023, LINES, "{said}");
    }

    const LINES: usize = 8 << 10;
}
