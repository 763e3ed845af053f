//! Names of sockets and operations that stay safe when what they name is gone.

/// A registered socket of one reactor: where it is, and which of those that have been there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketKey {
    /// Place in the reactor's and the driver's tables.
    pub(crate) index: u32,
    /// Differs for every socket that has had this place.
    pub(crate) generation: u32,
}

impl SocketKey {
    /// As the 64 bits that travel through the kernel.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Back from [`SocketKey::to_bits`].
    pub(crate) fn from_bits(bits: u64) -> SocketKey {
        // Truncation is the point: the two halves.
        SocketKey { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// An operation: a socket has at most one in flight in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpKey {
    pub(crate) socket: SocketKey,
    pub(crate) direction: Direction,
}

/// Which way an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Accept and recv.
    Read,
    /// Connect and send.
    Write,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_round_trip() {
        for (index, generation) in [(0, 0), (1, 2), (u32::MAX, 7), (7, u32::MAX)] {
            let key = SocketKey { index, generation };
            assert_eq!(SocketKey::from_bits(key.to_bits()), key);
        }
    }
}
