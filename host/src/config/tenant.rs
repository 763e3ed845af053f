//! What one tenant runs with.

use std::{fmt, path::PathBuf, str::FromStr};

use thiserror::Error;

use super::{
    limits::Limits,
    net::{Cidr, Grants},
    warn::{Warn, WarnSet},
};

/// One tenant: what it is given and how its component is run.
#[derive(Debug, Clone)]
pub struct TenantConfig {
    /// Shown in logs and counters.
    pub name: String,
    /// The guest's arguments, the program's name first.
    pub args: Vec<String>,
    /// The guest's environment; nothing of the host's own is passed on.
    pub env: Vec<EnvVar>,
    /// Folders of the host that the guest may open.
    pub dirs: Vec<DirGrant>,
    /// What it may listen on and connect to.
    pub grants: Grants,
    /// Who passes its connections on, and says with a header whose they are; nobody, if each is its peer's own.
    pub proxies: Vec<Cidr>,
    /// What it may use.
    pub limits: Limits,
    /// Of grants and limits, those that only warn.
    pub warn: WarnSet,
    /// How a handler's connections are kept apart.
    pub isolation: Isolation,
    /// How many copies of a program run.
    pub instances: Instances,
}

impl TenantConfig {
    /// A tenant that is granted nothing, with the limits of `run`.
    pub fn new(name: impl Into<String>) -> TenantConfig {
        TenantConfig {
            name: name.into(),
            args: Vec::new(),
            env: Vec::new(),
            dirs: Vec::new(),
            grants: Grants::default(),
            proxies: Vec::new(),
            limits: Limits::default(),
            warn: WarnSet::default(),
            isolation: Isolation::default(),
            instances: Instances::default(),
        }
    }

    /// The limits by which room is made on the machine: where more may pass, there is to be some for it.
    pub fn roomy(&self) -> Limits {
        let room = |warn, limit: usize| if self.warn.has(warn) { limit.max(WARNED_ROOM) } else { limit };
        let limits = &self.limits;
        Limits {
            coroutines_max: room(Warn::Coroutines, limits.coroutines_max),
            connections_max: room(Warn::Connections, limits.connections_max),
            outbound_max: room(Warn::Outbound, limits.outbound_max),
            ..limits.clone()
        }
    }
}

/// Of each thing whose limit only warns there is room for so many, as far as the machine has it.
const WARNED_ROOM: usize = 10_000;

/// What a connection of a handler shares with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Nothing: each has a fresh instance.
    #[default]
    Connection,
    /// One long-lived instance per worker.
    Shared,
}

/// How many instances of a program run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Instances {
    /// One, with one state.
    #[default]
    One,
    /// One on every worker; they share listening sockets, and nothing else.
    PerWorker,
}

/// A folder of the host and where the guest sees it: `HOST::GUEST`, or `HOST::GUEST:ro`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirGrant {
    /// The folder.
    pub host: PathBuf,
    /// Its absolute path in the guest.
    pub guest: String,
    /// Whether the guest may change it.
    pub read_only: bool,
}

/// A variable of the guest's environment: `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Not empty, without `=`.
    pub name: String,
    /// May be empty.
    pub value: String,
}

/// Why a part of a tenant's configuration could not be read. Each says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TenantError {
    /// Not an isolation.
    #[error(
        "`{0}` is not an isolation: write `connection` (a fresh instance each) or `shared` (one per worker)"
    )]
    Isolation(String),
    /// Not a number of instances.
    #[error("`{0}` is not a number of instances: write `1` or `per-worker`")]
    Instances(String),
    /// One path where two belong.
    #[error(
        "`{0}` names no folder in the guest: write HOST::GUEST, as in `./data::/data` or `./data::/data:ro`"
    )]
    NoGuestDir(String),
    /// No path of the host.
    #[error("`{0}` names no folder of this host: write HOST::GUEST, as in `./data::/data`")]
    NoHostDir(String),
    /// The guest has no working folder for it to be relative to.
    #[error(
        "`{guest}` in `{text}` is not an absolute path without `.` and `..`: write it as in `./data::/data`"
    )]
    GuestDir {
        /// The whole grant.
        text: String,
        /// The guest's part.
        guest: String,
    },
    /// A mount option that does not exist.
    #[error("`{option}` in `{text}` is unknown: the only option is `ro`, as in `./data::/data:ro`")]
    DirOption {
        /// The whole grant.
        text: String,
        /// What stands after the last colon.
        option: String,
    },
    /// A variable without a value or a name.
    #[error("`{0}` is not NAME=VALUE")]
    Env(String),
    /// Neither the guest nor the system could hold it.
    #[error("{0:?} has a zero byte in it")]
    ZeroByte(String),
}

impl FromStr for Isolation {
    type Err = TenantError;

    fn from_str(text: &str) -> Result<Isolation, TenantError> {
        match text {
            "connection" => Ok(Isolation::Connection),
            "shared" => Ok(Isolation::Shared),
            _ => Err(TenantError::Isolation(text.into())),
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isolation::Connection => "connection",
            Isolation::Shared => "shared",
        })
    }
}

impl FromStr for Instances {
    type Err = TenantError;

    fn from_str(text: &str) -> Result<Instances, TenantError> {
        match text {
            "1" => Ok(Instances::One),
            "per-worker" => Ok(Instances::PerWorker),
            _ => Err(TenantError::Instances(text.into())),
        }
    }
}

impl fmt::Display for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Instances::One => "1",
            Instances::PerWorker => "per-worker",
        })
    }
}

impl FromStr for DirGrant {
    type Err = TenantError;

    fn from_str(text: &str) -> Result<DirGrant, TenantError> {
        refuse_zero_byte(text)?;
        // The last `::`, for a folder of the host may have one in its name.
        let (host, guest) = text.rsplit_once("::").ok_or_else(|| TenantError::NoGuestDir(text.into()))?;
        let (guest, read_only) = match guest.rsplit_once(':') {
            None => (guest, false),
            Some((guest, "ro")) => (guest, true),
            Some((_, option)) => {
                return Err(TenantError::DirOption { text: text.into(), option: option.into() });
            }
        };
        if host.is_empty() {
            return Err(TenantError::NoHostDir(text.into()));
        }
        let plain = guest.split('/').all(|part| part != "." && part != "..");
        if !guest.starts_with('/') || !plain {
            return Err(TenantError::GuestDir { text: text.into(), guest: guest.into() });
        }
        Ok(DirGrant { host: host.into(), guest: guest.into(), read_only })
    }
}

impl FromStr for EnvVar {
    type Err = TenantError;

    fn from_str(text: &str) -> Result<EnvVar, TenantError> {
        refuse_zero_byte(text)?;
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(EnvVar { name: name.into(), value: value.into() }),
            _ => Err(TenantError::Env(text.into())),
        }
    }
}

fn refuse_zero_byte(text: &str) -> Result<(), TenantError> {
    if text.contains('\0') { Err(TenantError::ZeroByte(text.into())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirs() {
        for (text, host, guest, read_only) in [
            ("data::/data", "data", "/data", false),
            ("/srv/x::/:ro", "/srv/x", "/", true),
            ("./a b::/a b:ro", "./a b", "/a b", true),
            ("odd::name::/d", "odd::name", "/d", false),
        ] {
            let dir = DirGrant { host: host.into(), guest: guest.into(), read_only };
            assert_eq!(text.parse(), Ok(dir), "{text}");
        }
    }

    #[test]
    fn refused_dirs_say_what_to_write() {
        for (text, says) in [
            ("data", "names no folder in the guest"),
            ("data:/data", "names no folder in the guest"),
            ("", "names no folder in the guest"),
            ("::/data", "names no folder of this host"),
            ("data::", "not an absolute path"),
            ("data::data", "not an absolute path"),
            ("data::/a/../b", "not an absolute path"),
            ("data::/.", "not an absolute path"),
            ("data::/data:rw", "`rw`"),
            ("data::/data:", "the only option is `ro`"),
            ("data::/da\0ta", "zero byte"),
        ] {
            let error = text.parse::<DirGrant>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn env_vars() {
        let var = |name: &str, value: &str| Ok(EnvVar { name: name.into(), value: value.into() });
        assert_eq!("A=b".parse(), var("A", "b"));
        assert_eq!("A=".parse(), var("A", ""));
        assert_eq!("A=b=c".parse(), var("A", "b=c"));
        for text in ["A", "", "=b", "A=\0"] {
            assert!(text.parse::<EnvVar>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn choices_are_read_as_they_are_shown() {
        for isolation in [Isolation::Connection, Isolation::Shared] {
            assert_eq!(isolation.to_string().parse(), Ok(isolation));
        }
        for instances in [Instances::One, Instances::PerWorker] {
            assert_eq!(instances.to_string().parse(), Ok(instances));
        }
        assert!("2".parse::<Instances>().is_err());
        assert!("Shared".parse::<Isolation>().is_err());
    }
}
