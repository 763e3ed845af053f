//! How the process ends, and what it says of it.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::{
    admin::SocketError,
    config::{
        file::{FileError, Problems},
        machine::MachineError,
    },
    host::{MeetError, WatchError},
    imports::given::Unusable,
    sandbox::{component::LoadError, scan::ScanError},
    wall::WallError,
};

/// Exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: the program returned ok, or all was drained after a signal.
    Done,
    /// 1, or the code the guest gave to `exit`.
    Guest(u8),
    /// 2: bad arguments or configuration.
    Usage,
    /// 3: the drain's deadline passed, or a second signal came.
    CutOff,
    /// 4: the component is refused.
    Refused,
    /// 5: cannot listen.
    Bind,
    /// 6: this machine's limits do not allow what is configured.
    Machine,
}

impl Exit {
    /// For a guest that has called `exit`. Codes beyond a byte are failures.
    pub fn of_guest(code: i32) -> Self {
        match u8::try_from(code) {
            Ok(0) => Exit::Done,
            Ok(code) => Exit::Guest(code),
            Err(_) => Exit::Guest(1),
        }
    }

    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Guest(code) => code,
            Exit::Usage => 2,
            Exit::CutOff => 3,
            Exit::Refused => 4,
            Exit::Bind => 5,
            Exit::Machine => 6,
        }
    }
}

/// Why a host could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The component cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// As given.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// The component is larger than it may be.
    #[error(
        "{path}: it has {bytes} bytes, more than {bytes_max}, the most it may: `component-size` raises that"
    )]
    TooLarge {
        /// As given.
        path: PathBuf,
        /// What it has.
        bytes: u64,
        /// What it may have.
        bytes_max: u64,
    },
    /// It is not a component, or not one for conet.
    #[error("{path}: {error}")]
    Scan {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        error: ScanError,
    },
    /// It cannot be loaded.
    #[error("{path}: {error}")]
    Load {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        error: LoadError,
    },
    /// The file says something wrong.
    #[error("{0}")]
    Config(#[from] Problems),
    /// It cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// As given.
        path: String,
        /// The system's word.
        error: io::Error,
    },
    /// An instance of a new version could not be made.
    #[error("the tenant `{tenant}`: an instance cannot be made: {why}")]
    Rehearsal {
        /// Whose.
        tenant: String,
        /// What happened.
        why: String,
    },
    /// The host before has rolled it back, and no other has the version from before.
    #[error(
        "the tenant `{tenant}`: the version that the file says is held back by the host before ({why}), and that alone has the \
         one from before: put the file right and reload, or bring it again with `conet-host reload --retry`, and upgrade then"
    )]
    HeldBack {
        /// Whose.
        tenant: String,
        /// What was wrong with it.
        why: String,
    },
    /// A socket that the process was started with cannot be listened on.
    #[error(transparent)]
    Given(#[from] Unusable),
    /// The options do not go with what the component is.
    #[error("{0}")]
    Options(String),
    /// A folder that is granted cannot be opened.
    #[error("cannot open the granted folder {path}: {error}")]
    Folder {
        /// As given.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// The access log cannot be written there.
    #[error("cannot open the access log {path}: {error}")]
    AccessLog {
        /// As given.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}{}", hint(error))]
    Bind {
        /// As given.
        address: SocketAddr,
        /// The system's word.
        error: io::Error,
    },
    /// The admin's socket cannot be had.
    #[error("cannot have the admin's socket {path}: {error}")]
    Admin {
        /// As given.
        path: PathBuf,
        /// What is in the way.
        error: SocketError,
    },
    /// Nothing is taken over from the version before.
    #[error("{0}")]
    Meet(#[from] MeetError),
    /// The machine does not allow it.
    #[error("{0}")]
    Machine(#[from] MachineError),
    /// The driver that is asked for cannot be had.
    #[error("--driver io-uring: {0}; or leave the choice to --driver auto")]
    Driver(io::Error),
    /// The second wall cannot be raised.
    #[error("{0}")]
    Wall(#[from] WallError),
    /// What a reload asks for is behind it.
    #[error("this host's wall, which was raised when it started, keeps out of reach: {}. Name it in [host], and start the host again", .0.join(", "))]
    OutOfReach(Vec<String>),
    /// What changes cannot be seen.
    #[error("--watch: {0}")]
    Watch(#[from] WatchError),
    /// Threads, descriptors.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there: give another address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine",
        _ => "",
    }
}

impl From<FileError> for StartError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Read { path, error } => StartError::File { path, error },
            FileError::Wrong(problems) => StartError::Config(problems),
        }
    }
}

impl StartError {
    /// As it is told. Problems of a file have a line each, and begin with its name as compilers' do.
    pub fn told(&self) -> String {
        match self {
            StartError::Config(problems) => problems.to_string(),
            error => format!("error: {error}"),
        }
    }

    /// The process's end.
    pub fn exit(&self) -> Exit {
        match self {
            StartError::Config(problems) if problems.of_components => Exit::Refused,
            StartError::Read { .. }
            | StartError::File { .. }
            | StartError::Config(_)
            | StartError::Given(_)
            | StartError::Options(_)
            | StartError::Folder { .. }
            | StartError::AccessLog { .. }
            | StartError::Wall(WallError::Unknown { .. } | WallError::NotRoot { .. })
            | StartError::OutOfReach(_) => Exit::Usage,
            StartError::Load { error: LoadError::Engine(_), .. } => Exit::Machine,
            StartError::TooLarge { .. }
            | StartError::Scan { .. }
            | StartError::Load { .. }
            | StartError::Rehearsal { .. }
            | StartError::HeldBack { .. } => Exit::Refused,
            StartError::Bind { .. } | StartError::Admin { .. } => Exit::Bind,
            StartError::Machine(_)
            | StartError::Driver(_)
            | StartError::Watch(_)
            | StartError::Wall(WallError::Missing { .. } | WallError::Threads) => Exit::Machine,
            StartError::System(_) | StartError::Meet(_) | StartError::Wall(WallError::System { .. }) => {
                Exit::Guest(1)
            }
        }
    }
}
