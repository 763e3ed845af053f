//! A process from before the wall, which starts the host's next version outside of it.
//!
//! Filters and Landlock domains are inherited, add up and never come off: what the host itself started would stand inside
//! this wall and could not raise its own, and a file that names other folders would be of no use to it. So there is a
//! process that waits, of the same program, with the user and the capabilities that the host goes on with, which holds
//! nothing and does two things, once it is told to: start the program that the host was started as, with the same arguments, and
//! end what it has started last, which stands where the host's signals do not reach. What that program is was settled before any
//! guest ran, so a host that is taken over can have itself started again, and nothing else. It ends with the host.
//!
//! ```text
//! let launcher = Launcher::start()?;        // before the wall; `serve` does this, and keeps it
//! let (ours, theirs) = UnixStream::pair()?; // what the two versions shall talk by
//! let pid = launcher.launch(theirs.as_fd())?;
//! // The new process has `theirs` as its stdin, and stdout, stderr, environment and working folder as the host had them
//! // when it started, with the variable CONET_SUCCEEDS, the process id of the host, and without those of systemd's that are
//! // for one process alone. That it ends early shows as the end of `ours`.
//! launcher.end()?;                          // if it is not wanted any more
//! ```

use std::{
    env,
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use signal_hook::consts::{SIGHUP, SIGUSR2};

/// The host's end of it. Dropping this ends the process; those that it has started go on.
#[derive(Debug)]
pub struct Launcher {
    /// One request at a time.
    requests: Mutex<OwnedFd>,
    /// Ends when `requests` closes, and is nobody's to wait for: this process ends then, too.
    _process: Child,
}

impl Launcher {
    /// Starts the process. Before the wall, and before it matters who this process is.
    pub fn start() -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let process = Command::new(env::current_exe()?)
            .arg("launcher")
            .arg("--")
            .arg(program()?)
            .args(env::args_os().skip(1))
            .stdin(theirs)
            // Ctrl-C is for the host, which says when this ends.
            .process_group(0)
            .spawn()?;
        Ok(Self { requests: Mutex::new(ours), _process: process })
    }

    /// Starts the program anew, with this as its stdin; tells its process id. An error is that nothing was started.
    pub fn launch(&self, stdin: BorrowedFd<'_>) -> io::Result<u32> {
        let answer = self.ask(b"launch", Some(stdin))?;
        answer.parse().map_err(|_| io::Error::other(answer))
    }

    /// Ends what was started last, if it is still there.
    pub fn end(&self) -> io::Result<()> {
        match self.ask(b"end", None)? {
            answer if answer == ENDED => Ok(()),
            answer => Err(io::Error::other(answer)),
        }
    }

    fn ask(&self, request: &[u8], with: Option<BorrowedFd<'_>>) -> io::Result<String> {
        let gone = || io::Error::other("the process that starts others (`conet-host launcher`) has ended");
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let descriptors = with.map(|descriptor| [descriptor]);
        if let Some(descriptors) = &descriptors {
            assert!(beside.push(SendAncillaryMessage::ScmRights(descriptors)), "there is space for one");
        }
        match sendmsg(&*requests, &[IoSlice::new(request)], &mut beside, SendFlags::NOSIGNAL) {
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(gone()),
            sent => sent?,
        };
        let mut answer = [0; ANSWER_BYTES_MAX];
        let received = retry_on_intr(|| rustix::net::recv(&*requests, &mut answer[..], RecvFlags::empty()));
        match received {
            Ok((0, _)) | Err(Errno::CONNRESET) => Err(gone()),
            received => Ok(String::from_utf8_lossy(&answer[..received?.0]).into_owned()),
        }
    }
}

/// The launcher's own life: `program` is what it starts, with its arguments. Its stdin is the host's socket.
pub fn serve(program: &[OsString]) -> io::Result<()> {
    let [program, args @ ..] = program else { return Err(io::Error::other("no program is given")) };
    let host = rustix::process::getppid().map_or(0, |host| host.as_raw_nonzero().get());
    let requests = io::stdin().as_fd().try_clone_to_owned()?;
    // For the host, and sent to all of a service. To ignore them would go on to what is started; a handler does not.
    for signal in [SIGHUP, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    let mut last = None;
    while let Some(request) = next(&requests)? {
        let answer = match request {
            Request::Launch(stdin) => {
                let mut command = Command::new(program);
                command.args(args).env(SUCCEEDS, host.to_string()).stdin(Stdio::from(stdin)).process_group(0);
                for name in OF_ONE_PROCESS {
                    command.env_remove(name);
                }
                match command.spawn() {
                    Ok(child) => {
                        // Not reaped before, so the number is its own.
                        last = pidfd_of(&child).ok();
                        reaped(child)?.to_string()
                    }
                    Err(error) => format!("cannot start {}: {error}", Path::new(program).display()),
                }
            }
            Request::End => match last.take().map(|process| pidfd_send_signal(process, Signal::KILL)) {
                None | Some(Ok(()) | Err(Errno::SRCH)) => ENDED.to_owned(),
                Some(Err(error)) => error.to_string(),
            },
        };
        rustix::net::send(&requests, answer.as_bytes(), SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// What a host asks for.
enum Request {
    /// A process with this stdin.
    Launch(OwnedFd),
    /// The end of the last one.
    End,
}

fn pidfd_of(child: &Child) -> io::Result<OwnedFd> {
    let process = Pid::from_raw(child.id() as i32).expect("a child has an id");
    Ok(pidfd_open(process, PidfdFlags::empty())?)
}

/// The next request; none once the host is gone.
fn next(requests: &OwnedFd) -> io::Result<Option<Request>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    loop {
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; REQUEST_BYTES_MAX];
        let received =
            recvmsg(requests, &mut [IoSliceMut::new(&mut bytes)], &mut with, RecvFlags::CMSG_CLOEXEC);
        let received = match received {
            Err(rustix::io::Errno::INTR) => continue,
            received => received?,
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut descriptors = with.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        if let Some(descriptor) = descriptors.find_map(|mut descriptors| descriptors.next()) {
            return Ok(Some(Request::Launch(descriptor)));
        }
        if &bytes[..received.bytes] == b"end" {
            return Ok(Some(Request::End));
        }
    }
}

/// Its process id. It is waited for, so that it leaves nothing when it ends before the host.
#[expect(clippy::disallowed_methods, reason = "on a thread of its own, of a process without workers")]
fn reaped(mut child: Child) -> io::Result<u32> {
    let process = child.id();
    thread::Builder::new().name("reaper".into()).spawn(move || child.wait())?;
    Ok(process)
}

/// What this process was started as: by the name that was used, as a link may lead to the next version meanwhile.
fn program() -> io::Result<PathBuf> {
    let name = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if name.components().count() > 1 {
        return std::path::absolute(name);
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(&name)).find(|path| path.is_file());
    found.filter(|_| !name.as_os_str().is_empty()).map_or_else(env::current_exe, Ok)
}

/// The variable of a process that a launcher has started: the process id of the host it takes over from.
pub const SUCCEEDS: &str = "CONET_SUCCEEDS";
/// systemd's, for the process that it has started: what it is handed, and that it is to tell that it lives.
const OF_ONE_PROCESS: [&str; 5] =
    ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];
const ENDED: &str = "ended";
const REQUEST_BYTES_MAX: usize = 16;
/// A process id, or a path and what the system says of it.
const ANSWER_BYTES_MAX: usize = 8 << 10;
