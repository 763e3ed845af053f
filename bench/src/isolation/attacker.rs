//! Bad neighbours: what the guest is told to do, and what its peers do.

use clap::ValueEnum;

/// A neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Attacker {
    /// Does nothing: what is measured beside it is the machine.
    Idle,
    /// Computes 30 ms at a time, within its budget, without end.
    Spin,
    /// Computes until it is ended at its budget, again and again.
    Kill,
    /// Takes 6 MiB, writes to all of it, gives it back, again and again.
    Memory,
    /// Its peers connect and reset, as fast as they can.
    Churn,
    /// Sends without end, to peers that read.
    Send,
    /// Sends without end, to peers that do not.
    SendUnread,
    /// Receives from peers that send without end.
    Receive,
    /// Prints without end.
    Log,
    /// Traps at once, on every connection.
    Trap,
    /// Starts coroutines in its instance until refused, again and again.
    Go,
    /// Starts coroutines in fresh instances until refused, again and again.
    Spawn,
    /// Looks names up without end.
    Lookup,
    /// Sleeps for a millisecond, again and again, on many connections.
    Timer,
}

/// What its peers do, once they have said what the guest is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peers {
    /// There are none.
    None,
    /// Read until the end.
    Read,
    /// Nothing, until the end of the attack.
    Wait,
    /// Send without end.
    Send,
    /// Reset, without having said anything.
    Reset,
}

impl Attacker {
    /// In the order of the table.
    pub const ALL: [Self; 14] = [
        Self::Idle,
        Self::Spin,
        Self::Kill,
        Self::Memory,
        Self::Churn,
        Self::Send,
        Self::SendUnread,
        Self::Receive,
        Self::Log,
        Self::Trap,
        Self::Go,
        Self::Spawn,
        Self::Lookup,
        Self::Timer,
    ];

    /// Its name in the table.
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "none: an idle tenant",
            Self::Spin => "spinning within its budget",
            Self::Kill => "spinning until ended",
            Self::Memory => "memory churn",
            Self::Churn => "connection churn",
            Self::Send => "send flood, read",
            Self::SendUnread => "send flood, unread",
            Self::Receive => "receive flood",
            Self::Log => "log flood",
            Self::Trap => "trap storm",
            Self::Go => "coroutine bomb, `go`",
            Self::Spawn => "coroutine bomb, `spawn`",
            Self::Lookup => "name lookups",
            Self::Timer => "timers",
        }
    }

    /// More of its section in the file.
    pub(super) fn lines(self) -> String {
        let more = match self {
            Self::Go => "isolation = \"shared\"\n",
            Self::Lookup => "allow-connect = [\"nowhere.invalid:1\"]\n",
            _ => "",
        };
        format!("listen = [\"127.0.0.1:0\"]\n{more}")
    }

    /// What its peers send first: the guest's instruction.
    pub(super) fn letter(self) -> u8 {
        match self {
            Self::Idle | Self::Churn => b'.',
            Self::Spin => b'b',
            Self::Kill => b's',
            Self::Memory => b'm',
            Self::Send | Self::SendUnread => b'w',
            Self::Receive => b'r',
            Self::Log => b'l',
            Self::Trap => b't',
            Self::Go => b'g',
            Self::Spawn => b'p',
            Self::Lookup => b'd',
            Self::Timer => b'i',
        }
    }

    pub(super) fn peers(self) -> Peers {
        match self {
            Self::Idle => Peers::None,
            Self::Churn => Peers::Reset,
            Self::SendUnread => Peers::Wait,
            Self::Receive => Peers::Send,
            _ => Peers::Read,
        }
    }

    /// Connections at once, within the 256 that one address may have.
    pub(super) fn connections(self) -> usize {
        match self {
            Self::Idle => 0,
            Self::Memory | Self::Send | Self::Receive | Self::Trap | Self::Churn => 8,
            Self::SendUnread | Self::Timer => 128,
            Self::Go | Self::Spawn => 2,
            Self::Spin | Self::Kill | Self::Log | Self::Lookup => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_listed() {
        assert_eq!(Attacker::ALL.as_slice(), Attacker::value_variants());
    }
}
