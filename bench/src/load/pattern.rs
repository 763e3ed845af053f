//! The bytes that are sent: known at every position, so that they can be checked as they come back.

/// A repeating stream of bytes without short repetitions, and without [`SIGNAL`].
pub(super) struct Pattern {
    /// Two periods, so that a part of up to one period is a slice wherever it starts.
    bytes: Vec<u8>,
}

impl Pattern {
    pub(super) fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let period: Vec<u8> =
            std::iter::repeat_with(next).filter(|&byte| byte != SIGNAL).take(PERIOD).collect();
        Self { bytes: period.repeat(2) }
    }

    /// The stream from `position`, at most `len` bytes and at most [`PERIOD`].
    pub(super) fn part(&self, position: u64, len: u64) -> &[u8] {
        let from = (position % PERIOD as u64) as usize;
        &self.bytes[from..from + len.min(PERIOD as u64) as usize]
    }

    /// Whether `received` is what was sent at `position`. Unless `full`, looks only at both ends of long
    /// parts.
    pub(super) fn matches(&self, position: u64, received: &[u8], full: bool) -> bool {
        let expected = self.part(position, received.len() as u64);
        if full || received.len() <= 2 * EDGE {
            return expected == received;
        }
        let end = received.len() - EDGE;
        expected[..EDGE] == received[..EDGE] && expected[end..] == received[end..]
    }
}

/// A prime, so that no message size falls in step with it.
pub(super) const PERIOD: usize = 65_521;

/// Makes a test guest misbehave; a load beside it must not.
const SIGNAL: u8 = b'!';

/// Bytes compared at each end of a part.
const EDGE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_continue_each_other_over_the_period() {
        let pattern = Pattern::new();
        let whole = pattern.part(PERIOD as u64 - 10, 20);
        assert_eq!(whole[..10], *pattern.part(PERIOD as u64 - 10, 10));
        assert_eq!(whole[10..], *pattern.part(PERIOD as u64, 10));
        assert_eq!(pattern.part(3, u64::MAX).len(), PERIOD);
        assert!(!pattern.part(0, PERIOD as u64).contains(&SIGNAL));
    }

    #[test]
    fn a_wrong_lost_or_foreign_byte_is_seen() {
        let pattern = Pattern::new();
        let mut bytes = pattern.part(77, 1000).to_vec();
        assert!(pattern.matches(77, &bytes, false) && pattern.matches(77, &bytes, true));
        assert!(!pattern.matches(78, &bytes, false), "shifted by one");
        bytes[500] ^= 1;
        assert!(pattern.matches(77, &bytes, false), "the cheap check looks at the ends only");
        assert!(!pattern.matches(77, &bytes, true));
        bytes[999] ^= 1;
        assert!(!pattern.matches(77, &bytes, false));
    }
}
