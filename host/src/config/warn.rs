//! Grants and limits that only warn: what they would deny passes, and is counted and told.

use std::{fmt, str::FromStr};

/// One that can: its name is its key.
macro_rules! warns {
    ($($(#[doc = $doc:literal])+ $name:ident = $key:literal,)+) => {
        /// A grant or limit of which what is beyond can pass.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Warn { $($(#[doc = $doc])+ $name,)+ }

        impl Warn {
            /// All, in the order of their numbers.
            pub const ALL: &[Warn] = &[$(Warn::$name),+];

            /// In the file.
            pub fn key(self) -> &'static str {
                match self { $(Warn::$name => $key),+ }
            }
        }
    };
}

warns! {
    /// Listening where it is not granted.
    AllowListen = "allow-listen",
    /// Connecting, and looking up, what is not granted.
    AllowConnect = "allow-connect",
    /// Memory of all instances.
    TenantMemory = "tenant-memory",
    /// Coroutines at once.
    Coroutines = "coroutines",
    /// Listeners at once.
    Listeners = "listeners",
    /// Accepted connections at once.
    Connections = "connections",
    /// Of them, those of one address.
    ConnectionsPerIp = "connections-per-ip",
    /// Accepted connections in a second.
    AcceptRate = "accept-rate",
    /// A peer's first byte.
    FirstByte = "first-byte",
    /// A peer's next byte.
    Idle = "idle",
    /// A peer that takes nothing.
    Write = "write",
    /// A peer that sends slowly.
    ReceiveRateMin = "receive-rate-min",
    /// Opened connections at once.
    Outbound = "outbound",
    /// Lookups in a second.
    Lookups = "lookups",
    /// Making an instance.
    Start = "start",
    /// Computing without waiting.
    Cpu = "cpu",
    /// What is printed in a second.
    LogRate = "log-rate",
    /// Pools at once.
    Pools = "pools",
}

/// Limits that cannot, and why.
pub(super) const STRICT: &[(&str, &str)] = &[
    ("fresh-memory", RESERVED),
    ("shared-memory", RESERVED),
    ("memory-wait", "a connection would wait without end: let tenant-memory warn"),
    ("memories", SET_APART),
    ("tables", SET_APART),
    ("core-instances", SET_APART),
    ("table-elements", SET_APART),
    ("wasm-stack", "the stack ends there"),
    ("fiber-stack", "the stack ends there"),
    ("fresh-handles", HOST_MEMORY),
    ("shared-handles", HOST_MEMORY),
    ("host-call", HOST_MEMORY),
    ("log-line", HOST_MEMORY),
    ("orphan", "nobody is denied anything, as nobody is there: \"off\" lets the guest go on"),
    ("keepalive", "it is the system that gives such a peer up"),
    ("outbound-wait", "a guest would wait without end: let outbound warn"),
    ("connect", "a guest would wait as long as the network pleases: give it longer"),
    ("clock-granularity", "nothing is beyond it"),
    ("pool-open", CUT),
    ("pool-idle", CUT),
    ("pool-idle-age", CUT),
    ("pool-age", CUT),
    ("drain", "the host could not end"),
    ("component-size", COMPILING),
    ("nested-instances", COMPILING),
    ("compile-cpu", COMPILING),
    ("compile-memory", COMPILING),
    ("compile-time", COMPILING),
    ("over-limit", "it says what becomes of what is beyond other limits"),
    ("circuit-traps", "what traps has trapped: \"off\" lets it go on"),
    ("circuit-window", "what traps has trapped: circuit-traps = \"off\" lets it go on"),
    ("restarts", LATER),
    ("restart-window", LATER),
    ("bandwidth-in", LATER),
    ("bandwidth-out", LATER),
    ("connection-bandwidth-in", LATER),
    ("connection-bandwidth-out", LATER),
];

const RESERVED: &str = "a memory has its addresses reserved, and no more";
const SET_APART: &str = "room for them is set apart when the host starts";
const HOST_MEMORY: &str = "it bounds what the host itself holds for a guest";
const COMPILING: &str = "compiling it could take all that the machine has";
const LATER: &str = "it delays, and nothing is denied";
const CUT: &str = "it is what a pool gets at most, and nothing is denied";

impl FromStr for Warn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(warn) = Warn::ALL.iter().find(|warn| warn.key() == text) {
            return Ok(*warn);
        }
        match STRICT.iter().find(|(key, _)| *key == text) {
            Some((key, why)) => Err(format!("`{key}` cannot let pass what is beyond it: {why}")),
            None => {
                let all: Vec<_> = Warn::ALL.iter().map(|warn| warn.key()).collect();
                Err(format!("`{text}` is no grant or limit that can warn: those are {}", all.join(", ")))
            }
        }
    }
}

/// Which do.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct WarnSet(u32);

impl WarnSet {
    /// Does it?
    pub fn has(self, warn: Warn) -> bool {
        self.0 & (1 << warn as u32) != 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Warn> {
        Warn::ALL.iter().copied().filter(move |warn| self.has(*warn))
    }
}

impl FromIterator<Warn> for WarnSet {
    fn from_iter<I: IntoIterator<Item = Warn>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |set, warn| set | 1 << warn as u32))
    }
}

impl fmt::Debug for WarnSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        for warn in Warn::ALL {
            let set = WarnSet::from_iter([*warn]);
            assert!(set.iter().eq([*warn]), "{set:?}");
        }
        assert_eq!(WarnSet::from_iter(Warn::ALL.iter().copied()).iter().count(), Warn::ALL.len());
        assert_eq!(WarnSet::default().iter().count(), 0);
    }

    #[test]
    fn what_cannot_says_why() {
        for (key, why) in STRICT {
            let error = key.parse::<Warn>().expect_err("it cannot");
            assert!(error.contains(key) && error.contains(why), "{error}");
        }
        assert!("conections".parse::<Warn>().expect_err("no such key").contains("connections-per-ip"));
        for warn in Warn::ALL {
            assert_eq!(warn.key().parse(), Ok(*warn));
        }
    }
}
