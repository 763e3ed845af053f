//! A server's process: on its core from the start, known to listen before it is used, gone when stopped.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::affinity;

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    log: Log,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it on `cores` and waits until it listens: at `known`, or where it says.
    pub(crate) fn start(mut command: Command, cores: &[usize], known: Option<SocketAddr>) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = spawn(&mut command, cores)?;
        let stderr = child.stderr.take().context("the server has no standard error")?;
        let (log, (listening, address)) = (Log::default(), mpsc::channel());
        let reader = {
            let log = log.clone();
            Some(thread::spawn(move || read_log(stderr, &log, &listening)))
        };
        let mut server = Self { child, address: UNKNOWN, log, reader };
        if let Some(known) = known {
            server.address = known;
            server.wait_until_it_accepts(&command)?;
            return Ok(server);
        }
        server.address = match address.recv_timeout(START_PATIENCE) {
            Ok(address) => address,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("{command:?} did not listen within {START_PATIENCE:?}; {}", server.last_words())
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = server.end()?;
                bail!("{command:?} ended with {status} before it listened; {}", server.last_words());
            }
        };
        Ok(server)
    }

    /// Asks again and again: there is no event for a server that says nothing.
    fn wait_until_it_accepts(&mut self, command: &Command) -> Result<()> {
        let until = Instant::now() + START_PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{command:?} ended with {status} before it listened; {}", self.last_words());
            }
            ensure!(
                Instant::now() < until,
                "{command:?} does not listen on {}; {}",
                self.address,
                self.last_words()
            );
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it last wrote to its standard error, for a message about its failure.
    pub(crate) fn last_words(&self) -> String {
        let lines = self.log.lines();
        if lines.is_empty() {
            return "the server wrote nothing".into();
        }
        format!("the server last wrote:\n  {}", lines.iter().cloned().collect::<Vec<_>>().join("\n  "))
    }

    /// Asks it to end, and kills it if it does not. Gives the last lines that it wrote to its standard error.
    pub(crate) fn stop(mut self) -> Result<Vec<String>> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended with {status} during the measurement; {}", self.last_words());
        }
        self.end()?;
        Ok(self.log.lines().iter().cloned().collect())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        // It has not been waited for: the number is still its own.
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for the end it was asked for: how it ended, and when.
    pub(crate) fn ended(mut self) -> Result<(ExitStatus, Instant)> {
        let exit = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).context("pidfd_open")?;
        let timeout = Timespec { tv_sec: STOP_PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let ends = poll(&mut [PollFd::new(&exit, PollFlags::IN)], Some(&timeout))?;
        let now = Instant::now();
        ensure!(ends > 0, "the server does not end; {}", self.last_words());
        Ok((self.end()?, now))
    }

    fn end(&mut self) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            let exit = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).context("pidfd_open")?;
            self.signal(Signal::TERM)?;
            let timeout = Timespec { tv_sec: STOP_PATIENCE.as_secs() as i64, tv_nsec: 0 };
            if poll(&mut [PollFd::new(&exit, PollFlags::IN)], Some(&timeout))? == 0 {
                self.child.kill()?;
            }
        }
        let status = self.child.wait()?;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Ok(status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` on `core` to its end.
pub(crate) fn output(mut command: Command, core: usize) -> Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(spawn(&mut command, &[core])?.wait_with_output()?)
}

/// A child inherits the cores of the thread that starts it, so it never runs elsewhere.
fn spawn(command: &mut Command, cores: &[usize]) -> Result<Child> {
    let spawn = || {
        affinity::pin(cores)?;
        command.spawn().with_context(|| format!("cannot start {command:?}"))
    };
    let spawned = thread::scope(|scope| scope.spawn(spawn).join());
    spawned.map_err(|_| anyhow!("the thread that starts the process died"))?
}

/// The last lines of a server's standard error.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    fn lines(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: String) {
        let mut lines = self.lines();
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Reads to the end, so that the server never waits for room in the pipe.
fn read_log(stderr: ChildStderr, log: &Log, listening: &Sender<SocketAddr>) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Some(address) = listening_address(&line) {
            // Nobody waits for a second listener.
            let _ = listening.send(address);
        }
        log.push(line);
    }
}

fn listening_address(line: &str) -> Option<SocketAddr> {
    line.split_once("listening on ")?.1.split_whitespace().next()?.parse().ok()
}

const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// A guest may have to be compiled first.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Longer than conet-host's own drain.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

const LOG_LINES: usize = 10;

const LINE_BYTES_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_plain_line_and_in_a_log_line() {
        let address = SocketAddr::from(([127, 0, 0, 1], 7000));
        assert_eq!(listening_address("listening on 127.0.0.1:7000"), Some(address));
        assert_eq!(listening_address("12:00:01 INFO listening on 127.0.0.1:7000 tenant=run"), Some(address));
        assert_eq!(listening_address("listening on a socket"), None);
        assert_eq!(listening_address("bound 127.0.0.1:7000"), None);
    }

    #[test]
    fn a_server_that_ends_early_is_reported_with_its_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo cannot find the thing >&2; exit 3"]);
        let error = Server::start(command, &[0], None).err().expect("it never listens").to_string();
        assert!(error.contains("exit status: 3") && error.contains("cannot find the thing"), "{error}");
    }
}
