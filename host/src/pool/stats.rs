//! What a pool counts.

/// What a pool has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Connections opened.
    pub opened: u64,
    /// Times an idle connection went out again.
    pub reused: u64,
    /// Connections closed instead of kept, by [`Discard`] in its order.
    pub discarded: [u64; Discard::COUNT],
    /// Times a `get` had to wait in line.
    pub waited: u64,
    /// Connections open now: in use, idle, and being opened.
    pub open: usize,
    /// Of them, idle now.
    pub idle: usize,
}

impl PoolStats {
    /// Connections closed instead of kept, for whatever reason.
    pub fn discarded_total(&self) -> u64 {
        self.discarded.iter().sum()
    }

    pub(super) fn plus(mut self, other: PoolStats) -> PoolStats {
        self.opened += other.opened;
        self.reused += other.reused;
        self.discarded.iter_mut().zip(other.discarded).for_each(|(sum, count)| *sum += count);
        self.waited += other.waited;
        self.open += other.open;
        self.idle += other.idle;
        self
    }
}

/// Why a connection was closed instead of kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// It came back with unread bytes, an error, or its peer gone.
    UnhealthyAtPut,
    /// The same, found when it was to go out again.
    UnhealthyAtGet,
    /// It was idle for too long, or made room for another.
    IdleAge,
    /// It was too old.
    Age,
    /// Enough others were idle.
    IdleMax,
    /// The guest closed it.
    Closed,
    /// Its worker ended, or a panic dropped it.
    Abandoned,
    /// A call on it failed or timed out, or it was shut down.
    Spoiled,
}

impl Discard {
    /// How many reasons there are.
    pub const COUNT: usize = 8;

    /// All of them, with their names in counters.
    pub const ALL: [(Discard, &str); Discard::COUNT] = [
        (Discard::UnhealthyAtPut, "unhealthy-at-put"),
        (Discard::UnhealthyAtGet, "unhealthy-at-get"),
        (Discard::IdleAge, "idle-age"),
        (Discard::Age, "age"),
        (Discard::IdleMax, "idle-max"),
        (Discard::Closed, "closed"),
        (Discard::Abandoned, "abandoned"),
        (Discard::Spoiled, "spoiled"),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place() {
        for (i, (why, _)) in Discard::ALL.iter().enumerate() {
            assert_eq!(*why as usize, i);
        }
    }
}
