//! A child, as its parent sees it: started, listened to, and ended when its time is over.

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_setfl},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{
    CompileError,
    answer::Answer,
    ended::{is_out_of_memory, reason},
    job,
};
use crate::{
    config::limits::CompileLimits,
    sandbox::{component::LoadError, engine::Codegen},
};

/// What a child says of the component, made for it and gone afterwards. Once `stop` is readable, there is none.
pub(super) fn compile(
    component: &[u8],
    codegen: &Codegen,
    limits: &CompileLimits,
    gives_way: bool,
    stop: &OwnedFd,
) -> Result<Vec<u8>, LoadError> {
    let answer_bytes_max =
        component.len().saturating_mul(CODE_PER_BYTE_MAX).saturating_add(CODE_BYTES_BESIDE);
    let start = |job: OwnedFd| {
        let mut program = program(limits, gives_way);
        Process::start(program.stdin(job), answer_bytes_max)
    };
    let process = job::sealed(component, codegen).and_then(start).map_err(CompileError::System)?;
    match process.answer(limits, stop)? {
        Answer::Code(code) => Ok(code),
        Answer::Refused(why) if is_out_of_memory(&why) => {
            Err(CompileError::Memory(limits.memory_bytes_max).into())
        }
        Answer::Refused(why) => Err(LoadError::Refused(why)),
    }
}

/// This program as it was started, whatever file has its name now, with nothing of what it has.
fn program(limits: &CompileLimits, gives_way: bool) -> Command {
    let cpu = limits.cpu_max;
    let cpu_seconds = cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("conet-host")
        .arg("compile-child")
        .args(["--parent", &std::process::id().to_string()])
        .args(["--cpu-seconds", &cpu_seconds.to_string()])
        .args(["--memory-bytes", &limits.memory_bytes_max.to_string()])
        .args(gives_way.then_some("--give-way"))
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string());
    command
}

/// A child. Dropping it kills it, and waits for its end.
struct Process {
    child: Child,
    /// Readable once it has ended.
    end: OwnedFd,
    answer: Stream<ChildStdout>,
    said: Stream<ChildStderr>,
}

impl Process {
    /// Starts a program whose stdout is an answer that long at most.
    fn start(program: &mut Command, answer_bytes_max: usize) -> io::Result<Self> {
        // A terminal's Ctrl-C is for the host, which ends its child.
        program.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = program.spawn()?;
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let streams = || {
            // Not reaped yet, so the number is still the child's.
            let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
            Ok((end, Stream::new(stdout, answer_bytes_max)?, Stream::new(stderr, SAID_BYTES_MAX)?))
        };
        match streams() {
            Ok((end, answer, said)) => Ok(Self { child, end, answer, said }),
            Err(error) => {
                reap(&mut child)?;
                Err(error)
            }
        }
    }

    /// Listens to it until its end.
    fn answer(mut self, limits: &CompileLimits, stop: &OwnedFd) -> Result<Answer, CompileError> {
        let deadline = Instant::now() + limits.time_max;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CompileError::Time(limits.time_max));
            }
            let [stopped, ended] = self.wait(stop, left)?;
            if stopped {
                return Err(CompileError::Stopped);
            }
            self.answer.take()?;
            self.said.take()?;
            if self.answer.is_over {
                let said = format!("more than {} bytes of code", self.answer.bytes_max);
                return Err(CompileError::NoAnswer { said });
            }
            if ended {
                let status = reap(&mut self.child)?;
                let answer = std::mem::take(&mut self.answer.bytes);
                let answer = if status.success() { Answer::read(answer) } else { None };
                return answer.ok_or_else(|| reason(status, &self.said.bytes, limits));
            }
        }
    }

    /// Waits until it has ended, has something to say, or is to be stopped: the first and the last tells it.
    fn wait(&self, stop: &OwnedFd, at_most: Duration) -> io::Result<[bool; 2]> {
        let mut sources = vec![PollFd::new(stop, PollFlags::IN), PollFd::new(&self.end, PollFlags::IN)];
        sources.extend(self.answer.from.as_ref().map(|from| PollFd::new(from, PollFlags::IN)));
        sources.extend(self.said.from.as_ref().map(|from| PollFd::new(from, PollFlags::IN)));
        let at_most = Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: at_most.subsec_nanos().into() };
        match poll(&mut sources, Some(&at_most)) {
            Ok(_) => Ok([0, 1].map(|source| !sources[source].revents().is_empty())),
            Err(Errno::INTR) => Ok([false; 2]),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is our own child, so this cannot fail; were it to, there is nobody who could do more.
        let _ = reap(&mut self.child);
    }
}

/// Ends it, if it has not ended, and takes its number back.
#[expect(clippy::disallowed_methods, reason = "it has been killed, and this is no worker")]
fn reap(child: &mut Child) -> io::Result<ExitStatus> {
    child.kill()?;
    child.wait()
}

/// What comes out of a child.
struct Stream<R> {
    /// None at its end.
    from: Option<R>,
    bytes: Vec<u8>,
    bytes_max: usize,
    /// There was more, which is gone.
    is_over: bool,
}

impl<R: Read + AsFd> Stream<R> {
    fn new(from: R, bytes_max: usize) -> io::Result<Self> {
        fcntl_setfl(&from, OFlags::NONBLOCK)?;
        Ok(Self { from: Some(from), bytes: Vec::new(), bytes_max, is_over: false })
    }

    /// Takes what there is now, as far as a pipe can hold it: who goes on writing must not keep us here.
    fn take(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK_BYTES];
        for _ in 0..PIPE_BYTES_MAX / CHUNK_BYTES {
            let Some(from) = &mut self.from else { break };
            match from.read(&mut chunk) {
                Ok(0) => self.from = None,
                Ok(length) => {
                    let room = self.bytes_max - self.bytes.len();
                    self.bytes.extend(&chunk[..length.min(room)]);
                    self.is_over |= length > room;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// More is of use to nobody: while one of them links, the others have nothing to do.
const THREADS_MAX: usize = 4;
/// Of a child's last words.
const SAID_BYTES_MAX: usize = 4 << 10;
/// What a pipe holds, and what the system lets anybody make it hold.
const CHUNK_BYTES: usize = 64 << 10;
const PIPE_BYTES_MAX: usize = 1 << 20;
/// Of code, for each byte of the component, and besides: some times as much as was seen.
const CODE_PER_BYTE_MAX: usize = 64;
const CODE_BYTES_BESIDE: usize = 16 << 20;

#[cfg(test)]
mod tests;
