//! A drain: SIGTERM while requests are under way. None may be lost, and the host ends when the last one is answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::affinity;
use crate::compare::{Spread, machine};
use crate::contender::Artifact;
use crate::hosted::{Driver, Echo, Hosted, Stage};
use crate::serve;

/// What to measure, and how.
#[derive(Debug, Clone)]
pub struct Drain {
    /// What runs.
    pub guests: Vec<Echo>,
    /// What the host's worker waits for its sockets with. io_uring is left out where there is none.
    pub drivers: Vec<Driver>,
    /// Drains of each.
    pub rounds: usize,
    /// Requests under way at the signal.
    pub requests: usize,
    /// How long the last of them has left; the others have evenly less.
    pub longest: Duration,
    /// Where.
    pub stage: Stage,
}

/// One drain.
struct Drained {
    /// Requests without their answer.
    lost: usize,
    /// From the last answer, and the end of its connection, to the end of the host.
    exit_after: Duration,
}

/// Measures, and writes the table to `out`. False: a request was lost, or a host did not end as it should.
pub fn run(drain: &Drain, command_line: &str, out: &mut dyn Write) -> Result<bool> {
    ensure!(drain.rounds > 0 && drain.requests > 0, "at least one request in one round is needed");
    let guests = drain.guests.iter().map(|guest| guest.artifact());
    let section = drain.stage.prepare("drain", [Artifact::Host].into_iter().chain(guests))?;
    serve::raise_open_files()?;
    affinity::pin(&[drain.stage.load_core])?;
    let mut text = drain.head(command_line);
    let mut clean = true;
    for &driver in &drain.drivers {
        if driver == Driver::IoUring && !serve::io_uring::is_available() {
            eprintln!("left out: {}: there is none here", driver.name());
            continue;
        }
        for &guest in &drain.guests {
            let once = |_| drain.once(driver, guest);
            let drained = (0..drain.rounds).map(once).collect::<Result<Vec<Drained>>>()?;
            let lost: usize = drained.iter().map(|drained| drained.lost).sum();
            let after = drained.iter().map(|drained| drained.exit_after.as_secs_f64() * 1000.0);
            let after = Spread::of(after.collect()).context("no round")?;
            text += &format!(
                "| {} | {} | {} | {lost} | {after} |\n",
                guest.label(),
                driver.name(),
                drain.requests * drain.rounds
            );
            clean &= lost == 0;
        }
    }
    writeln!(out, "{text}")?;
    section.map_or(Ok(()), |section| section.write_text(&text))?;
    Ok(clean)
}

impl Drain {
    fn once(&self, driver: Driver, guest: Echo) -> Result<Drained> {
        let host = Hosted::start(driver, self.stage.server_core, &[guest.tenant("echo")?])?;
        let address = host.address("echo")?;
        let open = |_| request(address);
        let requests = (0..self.requests).map(open).collect::<Result<Vec<_>>>()?;
        host.signal(Signal::TERM)?;
        let began = Instant::now();
        let mut lost = 0;
        for (place, request) in (1u32..).zip(requests) {
            let left = self.longest * place / self.requests as u32;
            thread::sleep(left.saturating_sub(began.elapsed()));
            lost += usize::from(finish(request).is_err());
        }
        let last = Instant::now();
        let (status, ended) = host.ended()?;
        ensure!(status.success(), "the host ended with {status}");
        Ok(Drained { lost, exit_after: ended.saturating_duration_since(last) })
    }

    fn head(&self, command_line: &str) -> String {
        format!(
            "`{command_line}`\n\nSIGTERM with {} requests under way, the last of which has {} s left. Host with one worker on core {}, peers \
             on core {}; medians of {} drains (least to greatest). {}.\n\n\
             | guest | driver | requests | lost | ms from the last answer to the end of the host |\n|---|---|---:|---:|---:|\n",
            self.requests,
            self.longest.as_secs_f64(),
            self.stage.server_core,
            self.stage.load_core,
            self.rounds,
            machine()
        )
    }
}

/// The first half of an exchange: the guest is in it.
fn request(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(&mut stream, b"under way")?;
    Ok(stream)
}

/// The second.
fn finish(mut stream: TcpStream) -> Result<()> {
    exchange(&mut stream, b"and answered")
}

fn exchange(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    stream.write_all(message)?;
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer)?;
    ensure!(answer == message, "wrong bytes");
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(10);
