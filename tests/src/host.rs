//! One `conet-host` process under test.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{PipeReader, PipeWriter, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};

use crate::config::Config;
use crate::output::Output;
use crate::process::{Process, Signal};
use crate::{PATIENCE, artifacts, peer};

/// A `conet-host run` or `serve` about to be started.
pub struct Launch {
    binary: PathBuf,
    /// `run`, `serve` or `check`.
    command: &'static str,
    /// What that is given: a component, or a file.
    given: PathBuf,
    options: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    /// Sockets it is started with, each with its name.
    passed: Vec<(String, OwnedFd)>,
    stdout: Reader,
    stderr: Reader,
    cache: bool,
}

/// Who reads what the host prints.
enum Reader {
    Collects,
    /// Nobody, although the pipe is open. Of stderr the first line is read before.
    Idle,
    /// It has gone. Of stderr the first line is read before.
    Gone,
    /// Nobody, and the pipe is full from the start.
    Full,
}

impl Launch {
    /// Runs the guest of this name.
    pub fn guest(name: &str) -> Self {
        Self::component(artifacts::guest(name))
    }

    /// Runs the handler of this name, listening on a free loopback port.
    pub fn handler(name: &str) -> Self {
        Self::guest(name).option("--listen", "127.0.0.1:0")
    }

    /// Runs the component at this path.
    pub fn component(path: impl Into<PathBuf>) -> Self {
        Self::command("run", path.into(), true)
    }

    /// Serves a file's tenants.
    pub fn serve(config: &Config) -> Self {
        Self::command("serve", config.path().to_owned(), false)
    }

    /// Checks a file.
    pub fn check(config: &Config) -> Self {
        Self::command("check", config.path().to_owned(), false)
    }

    fn command(command: &'static str, given: PathBuf, cache: bool) -> Self {
        Self {
            binary: artifacts::host().to_owned(),
            command,
            given,
            options: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            passed: Vec::new(),
            stdout: Reader::Collects,
            stderr: Reader::Collects,
            cache,
        }
    }

    /// With another host binary.
    pub fn binary(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.binary);
        self
    }

    /// With an option of the host that has no value.
    pub fn flag(mut self, name: &str) -> Self {
        self.options.push(name.into());
        self
    }

    /// With an option of the host.
    pub fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.cache &= name != "--cache";
        self.options.extend([name.into(), value.as_ref().into()]);
        self
    }

    /// With an argument for the guest.
    pub fn arg(mut self, value: impl AsRef<OsStr>) -> Self {
        self.args.push(value.as_ref().into());
        self
    }

    /// With a variable in the host's own environment.
    pub fn process_env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.into(), value.as_ref().into()));
        self
    }

    /// With a socket of this name, as systemd passes them. Two at most, and nobody has its stdout then.
    pub fn passed(mut self, name: &str, socket: impl Into<OwnedFd>) -> Self {
        self.passed.push((name.into(), socket.into()));
        self
    }

    /// With a stdout that nobody reads.
    pub fn stdout_unread(mut self) -> Self {
        self.stdout = Reader::Idle;
        self
    }

    /// With a stdout whose reader has gone.
    pub fn stdout_closed(mut self) -> Self {
        self.stdout = Reader::Gone;
        self
    }

    /// With a stderr that nobody reads after its first line, which must come.
    pub fn stderr_unread(mut self) -> Self {
        self.stderr = Reader::Idle;
        self
    }

    /// With a stderr whose reader goes after its first line, which must come.
    pub fn stderr_closed(mut self) -> Self {
        self.stderr = Reader::Gone;
        self
    }

    /// With a stderr that is full from the start: what it listens on is seen by [`Process::listening`].
    pub fn stderr_full(mut self) -> Self {
        self.stderr = Reader::Full;
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Host {
        let mut command = match self.passed.is_empty() {
            true => Command::new(&self.binary),
            false => as_systemd(&self.binary, &self.passed),
        };
        command.arg(self.command);
        if self.command == "run"
            && let Some(driver) = std::env::var_os("CONET_DRIVER")
            && !self.options.iter().any(|option| option == "--driver")
        {
            command.arg("--driver").arg(driver);
        }
        command.args(&self.options);
        if self.cache {
            command.arg("--cache").arg(artifacts::code_cache());
        }
        command.arg(&self.given).args(&self.args).envs(self.env);
        // It would decide what is logged.
        command.env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut passed = std::mem::take(&mut self.passed).into_iter().map(|(_, socket)| socket);
        if let Some(first) = passed.next() {
            command.stdin(first);
            command.stdout(passed.next().map_or_else(Stdio::null, Stdio::from));
            self.stdout = Reader::Gone;
        }
        let mut unread: Vec<OwnedFd> = Vec::new();
        if let Reader::Full = self.stderr {
            let (reader, writer) = full_pipe();
            unread.push(reader.into());
            command.stderr(writer);
        }
        let line = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        // Or sockets would stay open here.
        drop(command);
        let stdout = match (self.stdout, child.stdout.take()) {
            (Reader::Collects, Some(pipe)) => Output::collect(pipe),
            (Reader::Idle, Some(pipe)) => {
                unread.push(pipe.into());
                Output::none()
            }
            _ => Output::none(),
        };
        let stderr = match (self.stderr, child.stderr.take()) {
            (Reader::Collects, Some(pipe)) => Output::collect(pipe),
            (Reader::Idle, Some(mut pipe)) => {
                let line = Output::first_line(&mut pipe);
                unread.push(pipe.into());
                line
            }
            (_, Some(mut pipe)) => Output::first_line(&mut pipe),
            (_, None) => Output::none(),
        };
        Host { process: Process::of(child.id()), child, line, stdout, stderr, _unread: unread }
    }

    /// Runs it to its end.
    pub fn finish(self) -> Exit {
        self.start().wait_exit()
    }
}

/// A running host. Dropping it kills it; when the test is failing, shows what it printed.
pub struct Host {
    process: Process,
    child: Child,
    line: String,
    stdout: Output,
    stderr: Output,
    /// Kept open, and no more.
    _unread: Vec<OwnedFd>,
}

impl Host {
    /// The address of its first listener, once it accepts.
    pub fn addr(&self) -> SocketAddr {
        self.wait_stderr("a listener", |text| text.lines().find_map(|line| listening(line, text)))
    }

    /// The address of a tenant's first listener, once it accepts.
    pub fn addr_of(&self, tenant: &str) -> SocketAddr {
        let of =
            |line: &str, text: &str| line.ends_with(&format!(" for {tenant}")).then(|| listening(line, text));
        self.wait_stderr("a listener", |text| text.lines().find_map(|line| of(line, text).flatten()))
    }

    /// Connects to a tenant's first listener.
    pub fn connect_to(&self, tenant: &str) -> TcpStream {
        peer::connect(self.addr_of(tenant))
    }

    /// Connects to its first listener.
    pub fn connect(&self) -> TcpStream {
        peer::connect(self.addr())
    }

    /// Waits for a line on stderr that contains `text`.
    pub fn wait_line(&self, text: &str) -> String {
        let find = |all: &str| all.lines().find(|line| line.contains(text)).map(str::to_owned);
        self.wait_stderr(&format!("{text:?} on stderr"), find)
    }

    /// Waits until it has printed `text` on stderr so many times.
    pub fn wait_count(&self, text: &str, times: usize) {
        let enough = |all: &str| (all.matches(text).count() >= times).then_some(());
        self.wait_stderr(&format!("{text:?} {times} times on stderr"), enough);
    }

    /// Waits for a line on stdout that contains `text`.
    pub fn wait_stdout_line(&self, text: &str) -> String {
        let find = |all: &str| all.lines().find(|line| line.contains(text)).map(str::to_owned);
        self.stdout
            .wait(PATIENCE, find)
            .unwrap_or_else(|| panic!("waited for {text:?} on stdout of {self:?}"))
    }

    /// Waits until it, or who has come after it, has handed over so many times; the process that serves since the last one.
    pub fn wait_successor(&self, upgrades: usize) -> Successor {
        let find = |all: &str| {
            let line = all.lines().filter(|line| line.starts_with("upgraded: process ")).nth(upgrades - 1)?;
            all.contains(&format!("{line}\n")).then(|| line.split(' ').nth(2)?.parse().ok())?
        };
        let id = self.wait_stderr(&format!("{upgrades} upgrades"), find);
        Successor { process: Process::of(id), line: self.line.clone() }
    }

    /// What it has printed on stderr.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The process.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    pub fn wait_exit(self) -> Exit {
        self.wait_exit_within(PATIENCE)
    }

    /// Waits for its end, at most this long.
    pub fn wait_exit_within(mut self, limit: Duration) -> Exit {
        assert!(self.process.wait_end(limit), "not ended after {limit:?}: {self:?}");
        let status = self.child.wait().expect("the child is ours");
        self.stderr.wait_end(PATIENCE);
        self.stdout.wait_end(Duration::from_secs(1));
        let (stdout, stderr) = (self.stdout.bytes(), self.stderr.text());
        Exit { status, line: std::mem::take(&mut self.line), stdout, stderr }
    }

    /// Asks it to drain, and checks that it does and exits 0.
    pub fn stop(self) {
        self.signal(Signal::TERM);
        self.wait_exit().assert_code(0);
    }

    fn wait_stderr<T>(&self, what: &str, find: impl FnMut(&str) -> Option<T>) -> T {
        self.stderr.wait(PATIENCE, find).unwrap_or_else(|| panic!("waited for {what} of {self:?}"))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n--- its stderr:\n{}", self.line, self.stderr.text())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() && !self.line.is_empty() {
            eprintln!("{self:?}");
        }
    }
}

/// A process that a host has handed over to. It prints where that did, and is nobody's child: dropping this kills it.
pub struct Successor {
    process: Process,
    line: String,
}

impl Successor {
    /// The process.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end, and for that of what it has started.
    pub fn wait_end(self) {
        let children = self.process.children();
        for process in children.into_iter().chain([self.process]) {
            assert!(process.wait_end(PATIENCE), "process {}, once {}, does not end", process.id(), self.line);
        }
    }

    /// Asks it to drain, and waits for its end.
    pub fn stop(self) {
        self.signal(Signal::TERM);
        self.wait_end();
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.process.ended() {
            self.process.signal_if_there(Signal::KILL);
        }
    }
}

/// How a host ended and what it had printed.
pub struct Exit {
    status: ExitStatus,
    line: String,
    /// Its whole stdout.
    pub stdout: Vec<u8>,
    /// Its whole stderr.
    pub stderr: String,
}

impl Exit {
    /// Its exit code; panics when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("{} in {self:?}", self.status))
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn assert_code(&self, expected: i32) -> &Self {
        assert_eq!(self.status.code(), Some(expected), "exit code of {self:?}");
        self
    }

    /// Checks that stderr names `text`.
    #[track_caller]
    pub fn assert_stderr(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no {text:?} in {self:?}");
        self
    }

    /// Checks that stderr is one line, and gives it.
    #[track_caller]
    pub fn one_line(&self) -> &str {
        let lines: Vec<_> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "lines on stderr of {self:?}");
        lines[0]
    }

    /// Its stdout as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl fmt::Debug for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(4096)]);
        write!(
            f,
            "{} ({})\n--- its stdout:\n{stdout}\n--- its stderr:\n{}",
            self.line, self.status, self.stderr
        )
    }
}

/// The program with sockets from descriptor 3 on, and what systemd says of them in its environment. A shell moves them there, from its
/// standard input and output: nothing else goes to a child alone.
fn as_systemd(binary: &Path, passed: &[(String, OwnedFd)]) -> Command {
    assert!(passed.len() <= 2, "there are two places");
    let names: Vec<_> = passed.iter().map(|(name, _)| name.as_str()).collect();
    let moves = if passed.len() == 1 { "3<&0" } else { "3<&0 4<&1" };
    let mut command = Command::new("sh");
    command.env("LISTEN_FDS", passed.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let script = format!("LISTEN_PID=$$ exec \"$0\" \"$@\" {moves} </dev/null >/dev/null");
    command.arg("-c").arg(script).arg(binary);
    command
}

/// A pipe that holds no byte more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("there are descriptors");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("a pipe has this flag");
    while writer.write(&[b'.'; 4096]).is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).expect("a pipe has this flag");
    (reader, writer)
}

/// The address of a `listening on` line; none while the line is still being written.
fn listening(line: &str, text: &str) -> Option<SocketAddr> {
    let address = line.strip_prefix("listening on ")?;
    let whole = text.contains(&format!("{line}\n"));
    let address = address.split(" for ").next().unwrap_or(address);
    whole.then(|| address.trim().parse().unwrap_or_else(|_| panic!("not an address: {line:?}")))
}
